"""The metrics of semantic localisation, R_su, R_as, R_da and their mean R_mi, and the regions that they compare with.

They equal AIR-SLT's evaluations/SLM.py. Yuan et al., "Learning to Evaluate Performance of Multi-modal Semantic
Localization", IEEE TGRS 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from eval.errors import InputError
from eval.selo.peaks import attention_centres

BETA, EPSILON = 0.707, 1e-7  # of R_su
SCALE = 3  # of R_as
ETA = 0.5  # of R_da
WEIGHTS = {"R_su": 0.4, "R_as": 0.35, "R_da": 0.25}  # in R_mi
RADIUS = 1.5  # of a region's circle, in mean distances of its vertices from their mean
FARTHEST = 2**30  # pixels from the origin; OpenCV's coordinates are int32


def selo_metrics(map: np.ndarray, polygons: Sequence) -> dict:
    """Returns how well a localisation map points at the regions that its text speaks of.

    Args:
      map: the localisation map, uint8 [H, W].
      polygons: of the regions, each [[x, y], …] with three vertices or more, x to the right and y down, in pixels.
        Two polygons take from each other where they overlap (even-odd), as in the reference; a repeated first vertex
        counts twice in the mean of the vertices.

    Returns:
      `R_su`, share of attention inside, higher is better; `R_as`, shift of attention from the regions' centres, lower
      is better; `R_da`, discreteness of attention in a region, higher is better; `R_mi`, their weighted mean, all from
      0 to 1; `centres`, the attention centres as (x, y), highest first; `mask_pixels`, pixels in the regions.

    Raises:
      InputError: the map is no uint8 matrix; a polygon has two points or fewer, is not finite, lies outside the scene
        or has no extent; or polygons cancel out.
    """
    map = np.asarray(map)
    if map.dtype != np.uint8 or map.ndim != 2 or not map.size:
        raise InputError(f"a localisation map is a uint8 matrix [H, W], got {map.dtype} of shape {map.shape}")
    polygons = checked_polygons(polygons, *map.shape)
    regions = [region(polygon) for polygon in polygons]
    mask = region_mask(polygons, *map.shape)
    centres = attention_centres(map)
    found = {
        "R_su": salient_share(map, mask),
        "R_as": attention_shift(centres, regions),
        "R_da": attention_discreteness(centres, regions),
    }
    better = {**found, "R_as": 1 - found["R_as"]}
    mean = sum(weight * better[name] for name, weight in WEIGHTS.items())
    return {**found, "R_mi": mean, "centres": centres, "mask_pixels": int(np.count_nonzero(mask))}


def salient_share(map: np.ndarray, mask: np.ndarray) -> float:
    """Returns R_su: attention inside by attention outside, with each divided by its area, squeezed into 0 … 1."""
    inside = cv2.sumElems(cv2.bitwise_and(map, map, mask=mask))[0] / 255
    outside = cv2.sumElems(map)[0] / 255 - inside
    pixels = np.count_nonzero(mask)
    return float(1 - np.exp(-BETA * inside / (outside + EPSILON) * (mask.size - pixels) / pixels))


def attention_shift(centres: Sequence[tuple[int, int]], regions: Sequence[RegionCircle]) -> float:
    """Returns R_as: mean distance of the centres in a region from its own, in radii, on an exponential scale.

    A region without a centre in it counts as one radius.
    """
    distances = [_distances(centres, one) or [one.radius] for one in regions]
    shift = np.mean([np.mean(of_one) / one.radius for of_one, one in zip(distances, regions, strict=True)])
    return float(np.expm1(SCALE * shift) / np.expm1(SCALE))


def attention_discreteness(centres: Sequence[tuple[int, int]], regions: Sequence[RegionCircle]) -> float:
    """Returns R_da: 1 for a single centre in a region, 0 for none, the less the more there are and the wider apart."""
    return float(np.mean([_discreteness(centres, one) for one in regions]))


def _discreteness(centres: Sequence[tuple[int, int]], one: RegionCircle) -> float:
    inside = np.array([c for c in centres if _distances([c], one)], np.float64)
    if len(inside) < 2:
        return float(len(inside))
    spread = np.mean(np.linalg.norm(inside - inside.mean(axis=0), axis=1)) / one.radius
    return 0.5 * (1 - spread) + np.exp(-ETA * (len(inside) + 2))


def _distances(centres: Sequence[tuple[int, int]], one: RegionCircle) -> list[float]:
    """Distances of those centres that lie in the region's circle."""
    distances = [float(np.hypot(x - one.x, y - one.y)) for x, y in centres]
    return [distance for distance in distances if distance <= one.radius]


class RegionCircle(NamedTuple):
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


def region(polygon: np.ndarray) -> RegionCircle:
    """Returns the circle of a polygon: the mean of its vertices and 1.5 times their mean distance from it, cut."""
    x, y = (int(total / len(polygon)) for total in np.cumsum(polygon, axis=0)[-1])
    return RegionCircle(x, y, int(RADIUS * np.mean([np.linalg.norm(vertex - (x, y)) for vertex in polygon])))


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
