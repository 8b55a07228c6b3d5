"""The things that stand in procedural scenes, each drawn within its box."""

from __future__ import annotations

from collections.abc import Callable

from lrsclip_jax.data.scenes.ground import GROUND
from lrsclip_jax.data.scenes.pen import COLOURS, RGB, WATER, Pen, inset, is_wide, median_line, shade
from lrsclip_jax.data.scenes.plan import Box, PlacedThing

LINES = (240, 240, 240)
SHADOW = 0.55
# Outline of a plane's right side from nose to tail, in its own frame: half a length is 1, the nose at v = -1.
PLANE = (
    *((0.0, -1.0), (0.14, -0.8), (0.14, -0.3), (1.0, 0.2), (1.0, 0.42)),
    *((0.14, 0.2), (0.11, 0.65), (0.42, 0.85), (0.42, 1.0), (0.0, 0.92)),
)


def _cast_shadow(pen: Pen, box: Box, ground: RGB, length: float) -> None:
    x0, y0, x1, y1 = box
    pen.rect((x0 + length, y0 + length, x1 + length, y1 + length), shade(ground, SHADOW))


def _gabled_roof(pen: Pen, thing: PlacedThing, ground: RGB) -> None:
    """A roof with a ridge along its longer side, one slope in the sun."""
    x0, y0, x1, y1 = thing.box
    colour = COLOURS[thing.colour]
    _cast_shadow(pen, thing.box, ground, 0.014)
    pen.rect(thing.box, colour)
    slope = (x0, (y0 + y1) / 2, x1, y1) if is_wide(thing.box) else ((x0 + x1) / 2, y0, x1, y1)
    pen.rect(slope, shade(colour, 0.8))


def _flat_roof(pen: Pen, thing: PlacedThing, ground: RGB) -> None:
    """A flat roof with a rim and three seams."""
    x0, y0, x1, y1 = thing.box
    colour = COLOURS[thing.colour]
    _cast_shadow(pen, thing.box, ground, 0.018)
    pen.rect(thing.box, shade(colour, 0.8))
    pen.rect(inset(thing.box, 0.008), colour)
    for i in range(1, 4):
        x, y = x0 + (x1 - x0) * i / 4, y0 + (y1 - y0) * i / 4
        seam = ((x, y0 + 0.02), (x, y1 - 0.02)) if is_wide(thing.box) else ((x0 + 0.02, y), (x1 - 0.02, y))
        pen.line(seam, shade(colour, 0.88), 0.01)


def _tank(pen: Pen, thing: PlacedThing, ground: RGB) -> None:
    x0, y0, x1, y1 = thing.box
    x, y, r = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2
    colour = COLOURS[thing.colour]
    pen.disc(x + 0.018, y + 0.018, r, shade(ground, SHADOW))
    pen.disc(x, y, r, shade(colour, 0.8))
    pen.disc(x, y, 0.86 * r, colour)
    pen.disc(x, y, 0.14 * r, shade(colour, 0.75))


def _plane(pen: Pen, thing: PlacedThing, ground: RGB) -> None:
    """Fuselage, swept wings and tail; the nose looks towards the heading."""
    x0, y0, x1, y1 = thing.box
    x, y, r = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2
    cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[thing.heading]
    outline = [*PLANE, *((-u, v) for u, v in reversed(PLANE))]
    outline = [(x + r * (u * cos - v * sin), y + r * (u * sin + v * cos)) for u, v in outline]
    pen.polygon([(u + 0.016, v + 0.016) for u, v in outline], shade(ground, SHADOW))
    pen.polygon(outline, COLOURS[thing.colour])


def _ship(pen: Pen, thing: PlacedThing, ground: RGB) -> None:
    """A hull pointed at the bow, with a deck and a white bridge near the stern."""
    (ax, ay), (bx, by) = median_line(thing.box)
    cx, cy, ux, uy = (ax + bx) / 2, (ay + by) / 2, (bx - ax) / 2, (by - ay) / 2
    width = min(thing.box[2] - thing.box[0], thing.box[3] - thing.box[1]) / 2
    vx, vy = (0, width) if uy == 0 else (width, 0)
    bow = 1 if thing.heading < 2 else -1

    def on_board(*points: tuple[float, float]) -> list[tuple[float, float]]:
        return [(cx + bow * u * ux + v * vx, cy + bow * u * uy + v * vy) for u, v in points]

    colour = COLOURS[thing.colour]
    pen.polygon(on_board((-1, -0.8), (-0.8, -1), (0.5, -1), (1, 0), (0.5, 1), (-0.8, 1), (-1, 0.8)), colour)
    pen.polygon(on_board((-0.8, -0.6), (0.4, -0.6), (0.7, 0), (0.4, 0.6), (-0.8, 0.6)), shade(colour, 0.86))
    pen.polygon(on_board((-0.75, -0.7), (-0.45, -0.7), (-0.45, 0.7), (-0.75, 0.7)), (236, 236, 232))


def _tennis_court(pen: Pen, thing: PlacedThing, ground: RGB) -> None:
    x0, y0, x1, y1 = thing.box
    colour = COLOURS[thing.colour]
    margin = 0.16 * min(x1 - x0, y1 - y0)
    court = inset(thing.box, margin)
    pen.rect(thing.box, shade(colour, 0.85))
    pen.rect(court, LINES)
    pen.rect(inset(court, 0.006), colour)
    pen.line(median_line(court, across=True), LINES, 0.006)


def _running_track(pen: Pen, thing: PlacedThing, ground: RGB) -> None:
    """A stadium-shaped track around a pitch with its lines."""
    x0, y0, x1, y1 = thing.box
    band = 0.17 * min(x1 - x0, y1 - y0)
    pen.stadium(thing.box, COLOURS[thing.colour])
    pen.stadium(inset(thing.box, band), shade(ground, 0.85))
    long, short = 2.0 * band, 1.35 * band
    dx, dy = (long, short) if is_wide(thing.box) else (short, long)
    pitch = (x0 + dx, y0 + dy, x1 - dx, y1 - dy)
    pen.rect(pitch, LINES)
    pen.rect(inset(pitch, 0.006), shade(ground, 1.1))
    pen.line(median_line(pitch, across=True), LINES, 0.006)


def _cabin(pen: Pen, thing: PlacedThing, ground: RGB) -> None:
    """A cabin in a clearing."""
    x0, y0, x1, y1 = thing.box
    pen.disc((x0 + x1) / 2, (y0 + y1) / 2, 0.8 * max(x1 - x0, y1 - y0), GROUND["meadow"])
    _gabled_roof(pen, thing, GROUND["meadow"])


def _pond(pen: Pen, thing: PlacedThing, ground: RGB) -> None:
    pen.stadium(thing.box, (206, 196, 160))
    pen.stadium(inset(thing.box, 0.012), WATER["blue"])


def _umbrella(pen: Pen, thing: PlacedThing, ground: RGB) -> None:
    x0, y0, x1, y1 = thing.box
    x, y, r = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2
    pen.disc(x + 0.008, y + 0.008, r, shade(COLOURS["pale"], 0.7))
    pen.disc(x, y, r, COLOURS[thing.colour])


def _pier(pen: Pen, thing: PlacedThing, ground: RGB) -> None:
    """Concrete with a crane rail."""
    pen.rect(thing.box, (150, 152, 156))
    pen.line(median_line(thing.box), (90, 90, 94), 0.006)


THINGS: dict[str, Callable[[Pen, PlacedThing, RGB], None]] = {
    "house": _gabled_roof,
    "barn": _gabled_roof,
    "warehouse": _flat_roof,
    "terminal": _flat_roof,
    "tank": _tank,
    "plane": _plane,
    "ship": _ship,
    "tennis court": _tennis_court,
    "running track": _running_track,
    "cabin": _cabin,
    "pond": _pond,
    "umbrella": _umbrella,
    "pier": _pier,
}
