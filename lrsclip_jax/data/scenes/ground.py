"""The grounds of procedural scenes: what covers an area, its colour and its texture."""

from __future__ import annotations

import math
from collections.abc import Callable

from lrsclip_jax.data.draws import between
from lrsclip_jax.data.scenes.pen import RGB, Pen, inset, shade
from lrsclip_jax.data.scenes.plan import Box

Texture = Callable[[Pen, Box, RGB], None]

GROUND: dict[str, RGB] = {
    "meadow": (122, 168, 72),
    "wheat field": (222, 184, 80),
    "ploughed field": (112, 78, 52),
    "lavender field": (138, 102, 166),
    "orchard": (170, 172, 104),
    "wood": (36, 74, 40),
    "sand": (228, 212, 176),
    "red earth": (188, 98, 62),
    "reservoir": (44, 100, 158),
    "car park": (124, 125, 128),
    "solar farm": (120, 138, 104),
    "greenhouses": (150, 160, 130),
    "neighbourhood": (142, 158, 104),
    "paved yard": (158, 154, 148),
    "tank farm": (196, 184, 156),
    "lawn": (96, 142, 84),
    "farmyard": (176, 150, 108),
    "apron": (184, 184, 180),
    "harbour basin": (34, 82, 112),
    "sports field": (110, 160, 80),
    "forest": (36, 74, 40),
    "park": (128, 178, 84),
    "sea": (38, 112, 160),
}
CROWN = (44, 92, 44)
CARS = ((220, 220, 220), (60, 62, 70), (176, 48, 44), (58, 88, 150))


def _furrows(spacing: float, contrast: float, width: float) -> Texture:
    """Parallel lines along one side of a field, as tractors leave them."""

    def texture(pen: Pen, box: Box, ground: RGB) -> None:
        x0, y0, x1, y1 = box
        colour = shade(ground, contrast)
        if pen.rng.random() < 0.5:
            for i in range(int((x1 - x0) / spacing)):
                x = x0 + (i + 0.5) * spacing
                pen.line(((x, y0), (x, y1)), colour, width)
        else:
            for i in range(int((y1 - y0) / spacing)):
                y = y0 + (i + 0.5) * spacing
                pen.line(((x0, y), (x1, y)), colour, width)

    return texture


def _scatter(count: int, radius: float, shades: tuple[float, ...]) -> Texture:
    """Discs in shades of the ground, `count` to a unit square: tree crowns, bushes, bare patches."""

    def texture(pen: Pen, box: Box, ground: RGB) -> None:
        x0, y0, x1, y1 = box
        colours = [shade(ground, factor) for factor in shades]
        for u, v, s in pen.rng.random((int(count * (x1 - x0) * (y1 - y0)), 3)).tolist():
            r = radius * (0.6 + 0.6 * s)
            x, y = x0 + r + u * (x1 - x0 - 2 * r), y0 + r + v * (y1 - y0 - 2 * r)
            pen.disc(x, y, r, colours[int(s * 97) % len(colours)])

    return texture


def _rows(colour: RGB, pitch: float, width: float) -> Texture:
    """Long equal bars in two columns: solar panels, greenhouses."""

    def texture(pen: Pen, box: Box, ground: RGB) -> None:
        x0, y0, x1, y1 = box
        middle = (x0 + x1) / 2
        for j in range(int((y1 - y0 - 0.02) / pitch)):
            y = y0 + 0.02 + j * pitch
            for left, right in ((x0 + 0.02, middle - 0.012), (middle + 0.012, x1 - 0.02)):
                pen.rect((left, y, right, y + width), colour)
                pen.line(((left, y + width / 2), (right, y + width / 2)), shade(colour, 1.25), 0.004)

    return texture


def _orchard(pen: Pen, box: Box, ground: RGB) -> None:
    x0, y0, x1, y1 = box
    columns, rows = int((x1 - x0) / 0.075), int((y1 - y0) / 0.075)
    for i in range(columns):
        for j in range(rows):
            pen.disc(x0 + (i + 0.5) * (x1 - x0) / columns, y0 + (j + 0.5) * (y1 - y0) / rows, 0.024, CROWN)


def _ripples(pen: Pen, box: Box, ground: RGB) -> None:
    x0, y0, x1, y1 = box
    for u, v in pen.rng.random((12, 2)).tolist():
        x, y = x0 + u * (x1 - x0 - 0.08), y0 + 0.02 + v * (y1 - y0 - 0.04)
        pen.line(((x, y), (x + 0.08, y)), shade(ground, 1.12), 0.006)


def _reservoir(pen: Pen, box: Box, ground: RGB) -> None:
    """Water within a pale dam."""
    pen.rect(box, (204, 198, 182))
    water = inset(box, 0.03)
    pen.rect(water, ground)
    _ripples(pen, water, ground)


def _car_park(pen: Pen, box: Box, ground: RGB) -> None:
    x0, y0, x1, y1 = box
    for j in range(int((y1 - y0) / 0.09)):
        y = y0 + 0.03 + j * 0.09
        pen.line(((x0, y), (x1, y)), (196, 196, 196), 0.005)
        for i in range(int((x1 - x0) / 0.034)):
            chance = pen.rng.random()
            if chance < 0.7:
                x = x0 + 0.008 + i * 0.034
                pen.rect((x, y + 0.006, x + 0.019, y + 0.046), CARS[int(chance * 100) % len(CARS)])


def _park(pen: Pen, box: Box, ground: RGB) -> None:
    """Two winding paths and scattered trees on a lawn."""
    x0, y0, x1, y1 = box
    xs = [x0 + (x1 - x0) * i / 12 for i in range(13)]
    phase = between(pen.rng, 0, math.tau)
    for shift in (0.0, 2.2):
        winding = [(x, (y0 + y1) / 2 + 0.3 * (y1 - y0) * math.sin(phase + shift + 5 * (x - x0))) for x in xs]
        pen.line(winding, (216, 204, 176), 0.022)
    _scatter(70, 0.026, (0.45, 0.55, 0.6))(pen, box, ground)


_CROWNS = _scatter(420, 0.026, (0.72, 0.85, 1.15, 1.35))
TEXTURES: dict[str, Texture] = {
    "meadow": _scatter(60, 0.03, (0.93, 1.05)),
    "wheat field": _furrows(0.05, 0.92, 0.012),
    "ploughed field": _furrows(0.03, 0.82, 0.010),
    "lavender field": _furrows(0.035, 0.78, 0.013),
    "orchard": _orchard,
    "wood": _CROWNS,
    "sand": _scatter(30, 0.03, (0.96, 1.03)),
    "red earth": _scatter(40, 0.03, (0.9, 1.08)),
    "reservoir": _reservoir,
    "car park": _car_park,
    "solar farm": _rows((34, 44, 92), 0.06, 0.042),
    "greenhouses": _rows((232, 238, 240), 0.08, 0.06),
    "neighbourhood": _scatter(110, 0.022, (0.55, 0.65)),
    "farmyard": _scatter(40, 0.03, (0.9, 1.08)),
    "harbour basin": _ripples,
    "forest": _CROWNS,
    "park": _park,
    "sea": _ripples,
}
