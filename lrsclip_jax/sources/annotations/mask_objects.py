"""Masks to boxes: each connected part of a class becomes a thing with its box and its outline."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.annotations.outlines import Polygon, joined
from lrsclip_jax.sources.item import Thing

Point = tuple[int, int]


def things_of_mask(mask: np.ndarray, names: Mapping[int, str], min_pixels: int = 16) -> tuple[Thing, ...]:
    """Returns the connected parts (of eight neighbours) of every named class, RemoteCLIP's mask-to-box conversion.

    A part of a class of objects passes for one object, so that buildings that touch are one.

    Args:
      mask: class of each pixel, integers [height, width].
      names: of the classes; pixels of others are passed over.
      min_pixels: smaller parts are specks and left out.

    Returns:
      By class, then from top to bottom: boxes in pixels with exclusive ends, outlines along the edges of pixels. The
      rings of holes are joined to the outline by cuts of no width, so that its area is the number of pixels.

    Raises:
      InputError: the mask is no grid of integers.
    """
    if mask.ndim != 2 or not np.issubdtype(mask.dtype, np.integer):
        raise InputError(f"a mask is integers [height, width], this one is {mask.dtype} {list(mask.shape)}")
    things: list[Thing] = []
    for value, name in names.items():
        part_of, stats = cv2.connectedComponentsWithStats((mask == value).astype(np.uint8), connectivity=8)[1:3]
        for part, (x, y, width, height, pixels) in enumerate(stats.tolist()[1:], 1):
            if pixels >= min_pixels:
                corners = outline(part_of[y : y + height, x : x + width] == part)
                polygon = tuple((float(x + across), float(y + down)) for across, down in corners)
                things.append(Thing(name, (float(x), float(y), float(x + width), float(y + height)), polygon))
    return tuple(things)


def outline(mask: np.ndarray) -> Polygon:
    """Returns the rings around the pixels of a mask, bool [H, W] with one at least, as one polygon with their area."""
    return joined(_rings(mask))


def _rings(part: np.ndarray) -> list[list[Point]]:
    """Walks the edges of the pixels, the part always to the right, and keeps the corners. The first ring is outside."""
    following = _edges(part)
    rings = []
    for start in list(following):  # in reading order: the first corner of all lies on the outer ring
        while following[start]:
            ring, at, step = [], start, None
            while following[at]:
                to = _turn(following[at], at, step)
                heading = (to[0] - at[0], to[1] - at[1])
                if heading != step:
                    ring.append(at)
                at, step = to, heading
            rings.append(ring)
    return rings


def _edges(part: np.ndarray) -> dict[Point, list[Point]]:
    """The edges between pixels of the part and others, from each corner to those that follow."""
    padded = np.pad(part, 1)
    inside = padded[1:-1, 1:-1]
    sides = (  # the neighbour beyond the edge, and the two ends of the edge from the pixel's upper left corner
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (1, 1)),
        (padded[2:, 1:-1], (1, 1), (0, 1)),
        (padded[1:-1, :-2], (0, 1), (0, 0)),
    )
    edges: list[tuple[Point, Point]] = []
    for beyond, (x0, y0), (x1, y1) in sides:
        rows, columns = np.nonzero(inside & ~beyond)
        edges += zip(
            zip((columns + x0).tolist(), (rows + y0).tolist(), strict=True),
            zip((columns + x1).tolist(), (rows + y1).tolist(), strict=True),
            strict=True,
        )
    following: dict[Point, list[Point]] = {}
    for start, end in sorted(edges, key=lambda edge: (edge[0][1], edge[0][0])):
        following.setdefault(start, []).append(end)
    return following


def _turn(ends: list[Point], at: Point, step: Point | None) -> Point:
    """Takes the next edge; where two pixels meet at a corner only, the one to the left, which keeps them together."""
    if len(ends) == 2 and step is not None:
        left = (at[0] + step[1], at[1] - step[0])
        if left in ends:
            ends.remove(left)
            return left
    return ends.pop()
