"""The regions that a text speaks of: polygons as annotated, as pixels, and as circles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from eval.errors import InputError

RADIUS = 1.5  # of a region's circle, in mean distances of its vertices from their mean
FARTHEST = 2**30  # pixels from the origin; OpenCV's coordinates are int32


class Region(NamedTuple):
    """The circle that stands for a polygon, in whole pixels."""

    x: int
    y: int
    radius: int


def checked_polygons(polygons: Sequence, height: int, width: int) -> list[np.ndarray]:
    """Returns polygons as float64 [V, 2] each, of x and y.

    Raises:
      InputError: there is none; one has two points or fewer, is not finite, lies outside the scene, or is smaller than
        a pixel; or together they leave no pixel.
    """
    if not np.iterable(polygons):
        raise InputError(f"polygons are a list of lists of points [x, y], got {polygons!r}")
    checked = [_checked(polygon, number, height, width) for number, polygon in enumerate(polygons)]
    if not checked:
        raise InputError("no polygon: a query needs at least one region")
    if not cv2.hasNonZero(region_mask(checked, height, width)):
        raise InputError("the polygons cancel out: every pixel lies in an even number of them")
    return checked


def region_mask(polygons: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """Returns the pixels on the border of a polygon or in an odd number of polygons, as 1 in a uint8 [H, W].

    Vertices are cut to whole pixels.
    """
    mask = np.zeros((height, width), np.uint8)
    return cv2.fillPoly(mask, [polygon.astype(np.int32) for polygon in polygons], 1)


def region(polygon: np.ndarray) -> Region:
    """Returns the circle of a polygon: the mean of its vertices and 1.5 times their mean distance from it, cut."""
    x, y = (int(total / len(polygon)) for total in np.cumsum(polygon, axis=0)[-1])
    return Region(x, y, int(RADIUS * np.mean([np.linalg.norm(vertex - (x, y)) for vertex in polygon])))


def _checked(polygon, number: int, height: int, width: int) -> np.ndarray:
    try:
        polygon = np.asarray(polygon, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"polygon {number} is no list of points [x, y]") from None
    if polygon.ndim != 2 or polygon.shape[1] != 2:
        raise InputError(f"polygon {number} is no list of points [x, y]: it has the shape {polygon.shape}")
    if len(polygon) < 3:
        raise InputError(f"polygon {number} has {len(polygon)} points: a region needs three or more")
    if not np.isfinite(polygon).all():
        raise InputError(f"polygon {number} has a point that is not finite: {polygon.tolist()}")
    scene = f"the scene of {height}×{width} pixels (rows×columns)"
    if np.abs(polygon).max() > FARTHEST:
        raise InputError(f"polygon {number} reaches beyond {FARTHEST:,} pixels, far outside {scene}")
    cut = polygon.astype(np.int64)
    has_vertex_inside = ((cut >= 0) & (cut < (width, height))).all(axis=1).any()
    if not has_vertex_inside and not cv2.hasNonZero(region_mask([polygon], height, width)):
        raise InputError(f"polygon {number} lies outside {scene}: points are [x, y] in pixels")
    if not region(polygon).radius:
        raise InputError(f"polygon {number} is smaller than a pixel")
    return polygon
