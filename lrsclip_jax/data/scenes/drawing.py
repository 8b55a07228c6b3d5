"""Draws the plan of a procedural scene as an aerial photograph would show it.

Shapes are drawn with PIL at three times the wanted size and averaged down. Positions, colours and strokes
come from the plan and from one random stream in a fixed order, so every size shows the same scene.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from PIL import Image
from PIL.Image import Resampling

from lrsclip_jax.data.draws import between
from lrsclip_jax.data.scenes.ground import GROUND, TEXTURES
from lrsclip_jax.data.scenes.kinds import SEAM_WIDTH
from lrsclip_jax.data.scenes.pen import COLOURS, RGB, WATER, Pen, Point, dashes, turned
from lrsclip_jax.data.scenes.plan import Area, Box, ScenePlan, Seam
from lrsclip_jax.data.scenes.things import THINGS

SUPERSAMPLING = 3
BLEED = 0.12  # areas reach this far beyond the picture, so that a turned scene has no empty corners
HAZE = np.array((196, 204, 214), np.float32)
ASPHALT, MARKING, SOIL, BALLAST = (88, 88, 92), (226, 226, 220), (164, 126, 86), (126, 108, 96)
BANK = (182, 172, 138)


def draw(plan: ScenePlan, size: int, rng: np.random.Generator) -> np.ndarray:
    """Returns the picture of a plan, uint8 [size, size, 3]."""
    image = Image.new("RGB", (size * SUPERSAMPLING,) * 2)
    pen = Pen(image, plan.tilt, rng)
    for area in reversed(plan.areas):  # a main area in the centre lies on top of the corners
        _area(pen, area)
    for seam in plan.seams:
        SEAMS[seam.kind](pen, _course(seam), seam)
    if plan.bridge:
        _bridge(pen, plan.bridge, plan.seams[-1].axis)
    return _photograph(image.reduce(SUPERSAMPLING), rng)


def bounds(box: Box, tilt: float, size: int) -> Box:
    """The axis-parallel box in pixels around a box of a plan, clipped to the picture."""
    corners = [turned(x, y, tilt) for x in box[::2] for y in box[1::2]]
    xs, ys = ([min(1.0, max(0.0, value)) * size for value in values] for values in zip(*corners, strict=True))
    return min(xs), min(ys), max(xs), max(ys)


def _photograph(image: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Adds haze, and multiplies by a smooth field of light, an exposure and white grain."""
    size = image.width
    gain = between(rng, 0.92, 1.06)
    field = Image.fromarray(rng.random((9, 9)).astype(np.float32)).resize((size, size), Resampling.BICUBIC)
    grain = rng.random((size, size), dtype=np.float32)
    hazy = 0.92 * np.asarray(image) + 0.08 * HAZE
    light = gain + 0.16 * (np.asarray(field) - 0.5) + 0.10 * (grain - 0.5)
    return np.clip(hazy * light[..., None], 0, 255).astype(np.uint8)


def _area(pen: Pen, area: Area) -> None:
    x0, y0, x1, y1 = (v - BLEED if v <= 0 else v + BLEED if v >= 1 else v for v in area.box)
    red, green, blue = (int(channel + between(pen.rng, -7, 7)) for channel in GROUND[area.content])
    box, ground = (x0, y0, x1, y1), (red, green, blue)
    pen.rect(box, ground)
    if area.content in TEXTURES:
        TEXTURES[area.content](pen, box, ground)
    for thing in area.things:
        if thing.kind == "beach":
            _shore(pen, thing.box, box, area.side)
        else:
            THINGS[thing.kind](pen, thing, ground)


def _shore(pen: Pen, strip: Box, sea: Box, side: str) -> None:
    """Sand from its strip to the land, with foam where it meets the sea."""
    for reach, colour in ((0.02, (226, 236, 238)), (0.0, COLOURS["pale"])):
        x0, y0, x1, y1 = strip
        x0 = sea[0] if side != "right" else x0 - reach
        x1 = sea[2] if side != "left" else x1 + reach
        y0 = sea[1] if side != "bottom" else y0 - reach
        y1 = sea[3] if side != "top" else y1 + reach
        pen.rect((x0, y0, x1, y1), colour)


# Seams


def _course(seam: Seam) -> list[Point]:
    """The corners of a seam's middle line, which runs on beyond the edges of the picture."""
    if seam.axis == "ring":
        low, high = 0.5 - seam.at, 0.5 + seam.at
        return [(low, low), (high, low), (high, high), (low, high), (low, low)]
    start = -BLEED if seam.start <= 0 else seam.start
    end = 1 + BLEED if seam.end >= 1 else seam.end
    if seam.axis == "vertical":
        return [(seam.at, start), (seam.at, end)]
    return [(start, seam.at), (end, seam.at)]


def _band(pen: Pen, course: list[Point], colour: RGB, width: float) -> None:
    pen.line(course, colour, width)
    pen.disc(*course[0], width / 2, colour)


def _road(pen: Pen, course: list[Point], seam: Seam) -> None:
    _band(pen, course, ASPHALT, SEAM_WIDTH["road"])
    for start, end in pairwise(course):
        for a, b in dashes(start, end, 0.07, 0.55):
            pen.line((a, b), MARKING, 0.007)


def _dirt_track(pen: Pen, course: list[Point], seam: Seam) -> None:
    _band(pen, course, SOIL, SEAM_WIDTH["dirt track"])


def _railway(pen: Pen, course: list[Point], seam: Seam) -> None:
    """Sleepers across a bed of ballast, and two rails."""
    (ax, ay), (bx, by) = course
    width = SEAM_WIDTH["railway"]
    pen.line(course, BALLAST, width)
    for (x, y), _ in dashes(course[0], course[1], 0.03, 0.5):
        dx, dy = (0.3 * width, 0) if ax == bx else (0, 0.3 * width)
        pen.line(((x - dx, y - dy), (x + dx, y + dy)), (70, 56, 48), 0.009)
    for shift in (-0.2 * width, 0.2 * width):
        dx, dy = (shift, 0) if ax == bx else (0, shift)
        pen.line(((ax + dx, ay + dy), (bx + dx, by + dy)), (52, 50, 52), 0.005)


def _trees(pen: Pen, course: list[Point], seam: Seam) -> None:
    for start, end in pairwise(course):
        for (x, y), _ in dashes(start, end, 0.042, 1.0):
            dx, dy, size = pen.rng.random(3)
            green = (60, 110, 44) if size < 0.5 else (78, 128, 54)
            pen.disc(x + 0.01 * (dx - 0.5), y + 0.01 * (dy - 0.5), 0.02 + 0.006 * size, green)


def _river(pen: Pen, course: list[Point], seam: Seam) -> None:
    """Water between two parallel winding banks."""
    start, end = (course[0][1], course[1][1]) if seam.axis == "vertical" else (course[0][0], course[1][0])
    phase = between(pen.rng, 0, math.tau)
    steps = [start + (end - start) * i / 24 for i in range(25)]
    middle = [seam.at + 0.018 * math.sin(phase + 7 * t) for t in steps]
    water = SEAM_WIDTH["river"]
    for width, colour in ((water + 0.016, BANK), (water, WATER[seam.colour])):
        left = [(m - width / 2, t) for m, t in zip(middle, steps, strict=True)]
        right = [(m + width / 2, t) for m, t in zip(middle, steps, strict=True)]
        outline = left + right[::-1]
        pen.polygon(outline if seam.axis == "vertical" else [(t, m) for m, t in outline], colour)


SEAMS: dict[str, Callable[[Pen, list[Point], Seam], None]] = {
    "road": _road,
    "dirt track": _dirt_track,
    "railway": _railway,
    "trees": _trees,
    "river": _river,
}


def _bridge(pen: Pen, box: Box, axis: str) -> None:
    """White parapets along the road's two sides; `axis` is the road's."""
    x0, y0, x1, y1 = box
    if axis == "vertical":
        sides = ((x0, y0), (x0, y1)), ((x1, y0), (x1, y1))
    else:
        sides = ((x0, y0), (x1, y0)), ((x0, y1), (x1, y1))
    for side in sides:
        pen.line(side, (238, 238, 234), 0.012)
