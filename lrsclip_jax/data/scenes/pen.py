"""A pen that draws in the coordinates of a scene's plan, and the colours it draws with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw

from lrsclip_jax.data.scenes.plan import Box

RGB = tuple[int, int, int]
Point = tuple[float, float]

COLOURS: dict[str, RGB] = {
    "red": (188, 52, 42),
    "blue": (52, 96, 186),
    "green": (58, 134, 78),
    "yellow": (236, 200, 60),
    "white": (242, 242, 238),
    "grey": (112, 114, 120),
    "brown": (128, 84, 54),
    "pale": (230, 214, 176),
}
WATER: dict[str, RGB] = {"blue": (46, 104, 162), "green": (62, 122, 108), "brown": (134, 108, 74)}


def shade(colour: RGB, factor: float) -> RGB:
    """Returns a colour, lighter for a factor above 1, darker below."""
    red, green, blue = (min(255, int(value * factor)) for value in colour)
    return red, green, blue


def turned(x: float, y: float, tilt: float) -> Point:
    """Turns a point of the unit square clockwise by `tilt` radians about its centre."""
    cos, sin = math.cos(tilt), math.sin(tilt)
    x, y = x - 0.5, y - 0.5
    return 0.5 + x * cos - y * sin, 0.5 + x * sin + y * cos


def dashes(start: Point, end: Point, pitch: float, share: float) -> Iterator[tuple[Point, Point]]:
    """Cuts a line into dashes, one every `pitch`, each `share` of it long."""
    length = math.dist(start, end)
    ux, uy = (end[0] - start[0]) / length, (end[1] - start[1]) / length
    for i in range(int(length / pitch)):
        a, b = i * pitch, (i + share) * pitch
        yield (start[0] + a * ux, start[1] + a * uy), (start[0] + b * ux, start[1] + b * uy)


class Pen:
    """Draws shapes given in a plan's unit coordinates, turned by the plan's tilt, on an image of any size.

    `rng` is the one stream of strokes: all random values are drawn from it in a fixed order.
    """

    def __init__(self, image: Image.Image, tilt: float, rng: np.random.Generator):
        self.rng = rng
        self._draw = ImageDraw.Draw(image)
        self._scale = image.width
        self._tilt = tilt

    def _at(self, x: float, y: float) -> Point:
        x, y = turned(x, y, self._tilt)
        return x * self._scale, y * self._scale

    def polygon(self, points: Sequence[Point], colour: RGB) -> None:
        self._draw.polygon([self._at(x, y) for x, y in points], fill=colour)

    def rect(self, box: Box, colour: RGB) -> None:
        x0, y0, x1, y1 = box
        self.polygon(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), colour)

    def line(self, points: Sequence[Point], colour: RGB, width: float) -> None:
        pixels = max(1, round(width * self._scale))
        self._draw.line([self._at(x, y) for x, y in points], fill=colour, width=pixels, joint="curve")

    def disc(self, x: float, y: float, radius: float, colour: RGB) -> None:
        x, y = self._at(x, y)
        r = radius * self._scale
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def stadium(self, box: Box, colour: RGB) -> None:
        """A rectangle whose shorter sides are half circles."""
        x0, y0, x1, y1 = box
        r = min(x1 - x0, y1 - y0) / 2
        if x1 - x0 >= y1 - y0:
            self.rect((x0 + r, y0, x1 - r, y1), colour)
        else:
            self.rect((x0, y0 + r, x1, y1 - r), colour)
        self.disc(x0 + r, y0 + r, r, colour)
        self.disc(x1 - r, y1 - r, r, colour)


def inset(box: Box, by: float) -> Box:
    """Returns a box without a margin of width `by`."""
    x0, y0, x1, y1 = box
    return x0 + by, y0 + by, x1 - by, y1 - by


def is_wide(box: Box) -> bool:
    """Returns whether a box is at least as wide as high."""
    return box[2] - box[0] >= box[3] - box[1]


def median_line(box: Box, across: bool = False) -> tuple[Point, Point]:
    """The middle line of a box along its longer side, or across it."""
    x0, y0, x1, y1 = box
    if is_wide(box) != across:
        return (x0, (y0 + y1) / 2), (x1, (y0 + y1) / 2)
    return ((x0 + x1) / 2, y0), ((x0 + x1) / 2, y1)
