"""The plan of a procedural scene, from which its captions are written and its pixels drawn.

A plan lives on the unit square (x to the right, y downwards) and is turned by a small angle when it is drawn.
Areas tile the square: the main one, which gives the scene its label, and its surroundings. Seams (roads,
railways, rows of trees, a river) run between areas.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lrsclip_jax.data.draws import between, pick, shuffled, stream
from lrsclip_jax.data.scenes.kinds import CONTENTS, KINDS, SEAM_WIDTH, THING_SIZE

Box = tuple[float, float, float, float]  # x0, y0, x1, y1


class PlacedThing(NamedTuple):
    """One object: a plane, a tank, a house. `heading`: quarter turns of its front, clockwise from up."""

    kind: str
    colour: str
    box: Box
    heading: int


class Area(NamedTuple):
    """A part of the scene. `content` is a key of `CONTENTS`; `side` tells where its strip lies, if any."""

    place: str
    content: str
    box: Box
    things: tuple[PlacedThing, ...]
    side: str = ""


class Seam(NamedTuple):
    """A road or river between areas: vertical at x = `at`, horizontal at y = `at`, or a ring at distance `at`."""

    kind: str
    axis: str
    at: float
    start: float = 0.0
    end: float = 1.0
    colour: str = ""


class ScenePlan(NamedTuple):
    """A whole scene: areas with the main one first, seams in drawing order, tilt in radians, clockwise."""

    label: str
    tilt: float
    areas: tuple[Area, ...]
    seams: tuple[Seam, ...]
    bridge: Box | None  # a plan with a bridge has a river and a road as its seams, and no main area


class Layout(NamedTuple):
    """How the square is divided: places with their boxes, the main one first, and the seams between."""

    regions: list[tuple[str, Box]]
    seams: list[Seam]


OPPOSITE = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
RIVERS = ("blue", "green", "brown")  # their colours
MAX_TILT = 0.09
EDGE = 0.055  # the outermost margin, which the tilt may turn out of the picture


def plan(seed: int, index: int) -> ScenePlan:
    """Returns the plan of scene `index` of the series `seed`."""
    rng = stream(seed, index, purpose=0)
    label = pick(rng, tuple(KINDS))
    kind = KINDS[label]
    division = pick(rng, kind.layouts)
    layout = LAYOUTS[division](rng)
    around = [c for c in kind.around if division != "centre" or not CONTENTS[c].kind]
    contents = [kind.main] * bool(kind.main) + shuffled(rng, around)
    margin = max(SEAM_WIDTH[seam.kind] for seam in layout.seams) / 2 + 0.02
    areas = tuple(
        _furnish(rng, place, content, box, margin)
        for (place, box), content in zip(layout.regions, contents, strict=False)
    )
    order = list(SEAM_WIDTH)
    seams = tuple(sorted(layout.seams, key=lambda seam: order.index(seam.kind)))
    bridge = _crossing(*seams) if division == "river" else None
    return ScenePlan(label, between(rng, -MAX_TILT, MAX_TILT), areas, seams, bridge)


# Layouts


def _cut(rng: np.random.Generator) -> float:
    """Where the square is divided: clearly before the middle, in the middle, or clearly behind it."""
    return pick(rng, (0.41, 0.5, 0.59)) + between(rng, -0.015, 0.015)


def _quarters(x: float, y: float) -> dict[str, Box]:
    return {
        "in the upper left corner": (0.0, 0.0, x, y),
        "in the upper right corner": (x, 0.0, 1.0, y),
        "in the lower left corner": (0.0, y, x, 1.0),
        "in the lower right corner": (x, y, 1.0, 1.0),
    }


def _two_seams(rng: np.random.Generator) -> list[str]:
    return shuffled(rng, ("road", "road", "dirt track", "railway", "trees"))[:2]


def _quartered(rng: np.random.Generator) -> Layout:
    """Four quarters with a seam down and a seam across."""
    x, y = _cut(rng), _cut(rng)
    down, across = _two_seams(rng)
    regions = shuffled(rng, list(_quarters(x, y).items()))
    return Layout(regions, [Seam(down, "vertical", x), Seam(across, "horizontal", y)])


def _by_a_river(rng: np.random.Generator) -> Layout:
    """Four quarters with a river and, across it, a road."""
    x, y = _cut(rng), _cut(rng)
    regions = shuffled(rng, list(_quarters(x, y).items()))
    colour = pick(rng, RIVERS)
    if rng.random() < 0.5:
        return Layout(regions, [Seam("river", "vertical", x, colour=colour), Seam("road", "horizontal", y)])
    return Layout(regions, [Seam("river", "horizontal", y, colour=colour), Seam("road", "vertical", x)])


def _halved(rng: np.random.Generator) -> Layout:
    """One half for the main area, two quarters next to it; a seam between the halves and one between those."""
    x, y = _cut(rng), _cut(rng)
    long, short = _two_seams(rng)
    word, half = pick(
        rng,
        (
            ("left", (0.0, 0.0, x, 1.0)),
            ("right", (x, 0.0, 1.0, 1.0)),
            ("upper", (0.0, 0.0, 1.0, y)),
            ("lower", (0.0, y, 1.0, 1.0)),
        ),
    )
    rest = [(place, box) for place, box in _quarters(x, y).items() if word not in place]
    axes = [("vertical", x), ("horizontal", y)]
    (long_axis, cut), (short_axis, at) = axes if word in ("left", "right") else axes[::-1]
    start, end = (cut, 1.0) if word in ("left", "upper") else (0.0, cut)
    seams = [Seam(long, long_axis, cut), Seam(short, short_axis, at, start, end)]
    return Layout([(f"in the {word} half", half), *shuffled(rng, rest)], seams)


def _centred(rng: np.random.Generator) -> Layout:
    """A block in the centre, ringed by a seam, on top of four corners."""
    reach = between(rng, 0.25, 0.28)
    block = (0.5 - reach, 0.5 - reach, 0.5 + reach, 0.5 + reach)
    corners = shuffled(rng, list(_quarters(0.5, 0.5).items()))
    ring = Seam(pick(rng, ("road", "dirt track", "trees")), "ring", reach)
    return Layout([("in the centre", block), *corners], [ring])


LAYOUTS = {"quarter": _quartered, "river": _by_a_river, "half": _halved, "centre": _centred}


def _crossing(river: Seam, road: Seam) -> Box:
    """Where the road crosses the river, with a little of the banks."""
    length, width = SEAM_WIDTH["river"] / 2 + 0.03, SEAM_WIDTH["road"] / 2
    if river.axis == "vertical":
        return (river.at - length, road.at - width, river.at + length, road.at + width)
    return (road.at - width, river.at - length, road.at + width, river.at + length)


# Things


def _furnish(rng: np.random.Generator, place: str, name: str, box: Box, margin: float) -> Area:
    """Sets a strip along one side of an area and a grid of equal things on the rest of it."""
    content = CONTENTS[name]
    if not content.kind:
        return Area(place, name, box, ())
    free, things, side = _interior(box, margin), [], ""
    if content.strip:
        side = pick(rng, _outer_sides(box))
        side = OPPOSITE[side] if content.on_strip else side
        strip, rest = _cut_off(free, side, content.strip_width)
        things.append(PlacedThing(content.strip, pick(rng, content.strip_colours), strip, 0))
        free = strip if content.on_strip else rest
    colour, count = pick(rng, content.colours), pick(rng, content.counts)
    boxes = _grid(rng, free, count, THING_SIZE[content.kind])
    things += [PlacedThing(content.kind, colour, box, heading) for box, heading in boxes]
    return Area(place, name, box, tuple(things), side)


def _interior(box: Box, margin: float) -> Box:
    """The part of an area that no seam covers and that stays in the picture when the scene is turned."""
    x0, y0, x1, y1 = box
    return (
        x0 + (margin if x0 > 0 else EDGE),
        y0 + (margin if y0 > 0 else EDGE),
        x1 - (margin if x1 < 1 else EDGE),
        y1 - (margin if y1 < 1 else EDGE),
    )


def _outer_sides(box: Box) -> list[str]:
    """The sides of an area that face away from the rest of the scene; of a block in the centre, all four."""
    x0, y0, x1, y1 = box
    sides = []
    if x1 - x0 < 1:
        sides += ["left"] * (x0 <= 0) + ["right"] * (x1 >= 1)
    if y1 - y0 < 1:
        sides += ["top"] * (y0 <= 0) + ["bottom"] * (y1 >= 1)
    return sides or list(OPPOSITE)


def _cut_off(box: Box, side: str, width: float) -> tuple[Box, Box]:
    """A strip of that width along one side of a box, and the rest."""
    x0, y0, x1, y1 = box
    if side == "left":
        return (x0, y0, x0 + width, y1), (x0 + width, y0, x1, y1)
    if side == "right":
        return (x1 - width, y0, x1, y1), (x0, y0, x1 - width, y1)
    if side == "top":
        return (x0, y0, x1, y0 + width), (x0, y0 + width, x1, y1)
    return (x0, y1 - width, x1, y1), (x0, y0, x1, y1 - width)


def _grid(rng: np.random.Generator, box: Box, count: int, size: tuple[float, float]) -> list[tuple[Box, int]]:
    """Boxes and headings of `count` things in the grid that leaves them largest, each with a little play."""
    x0, y0, x1, y1 = box
    options = []
    for columns in range(1, count + 1):
        rows = -(-count // columns)
        cell_w, cell_h = (x1 - x0) / columns, (y1 - y0) / rows
        for heading, (w, h) in enumerate((size[::-1], size)):
            scale = min(1.0, 0.86 * cell_w / w, 0.86 * cell_h / h)
            options.append((scale, -columns * rows, columns, heading))
    best = max(option[:2] for option in options)
    scale, cells, columns, heading = pick(rng, [option for option in options if option[:2] == best])
    cell_w, cell_h = (x1 - x0) / columns, (y1 - y0) * columns / -cells
    w, h = (side * scale for side in (size if heading else size[::-1]))
    heading += 2 * int(rng.random() * 2)
    boxes = []
    for i in range(count):
        left = x0 + (i % columns) * cell_w + (cell_w - w) * between(rng, 0.3, 0.7)
        top = y0 + (i // columns) * cell_h + (cell_h - h) * between(rng, 0.3, 0.7)
        boxes.append(((left, top, left + w, top + h), heading))
    return boxes
