"""The part of an annotated object that lies in a window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lrsclip_jax.errors import optional
from lrsclip_jax.sources.annotations.outlines import Polygon, bounds, joined
from lrsclip_jax.sources.item import Box, Thing

_SPECK = 1.0  # pixels: next to larger parts, a smaller one is no sight


def clip(thing: Thing, window: Box) -> tuple[Thing, ...]:
    """Returns what a window (x0, y0, x1, y1) shows of a thing, in the window's own coordinates; () where it is outside.

    An outline that the window cuts in two becomes two things, each with its own outline and box. One that has several
    parts already, such as a mask, stays one. A thing without a box, whose presence alone is known, is returned as it
    is. Raises MissingPackage where an outline is to be cut and shapely is not installed.
    """
    if thing.box is None:
        return (thing,)
    box = intersection(thing.box, window)
    if box is None:
        return ()
    outline = thing.polygon
    if not outline or _holds(window, bounds(outline)):
        return (_moved(thing.name, box, outline, window),)
    cut = ((part, intersection(box, bounds(part))) for part in _visible(outline, window))
    return tuple(_moved(thing.name, inside, part, window) for part, inside in cut if inside)


def visible(box: Box, window: Box) -> float:
    """Returns the share of a box's area that lies in the window."""
    part = intersection(box, window)
    return _area(part) / _area(box) if part else 0.0


def intersection(a: Box, b: Box) -> Box | None:
    """Returns what two boxes share, or None where that has no area."""
    x0, y0, x1, y1 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _visible(outline: Polygon, window: Box) -> list[Polygon]:
    """The outlines of the parts in a window, from left to right. Parts that touch at a corner are one."""
    shapely = optional("shapely", "corpus")

    def parts(shape: Any) -> list[Any]:
        return [part for part in shapely.get_parts(shape) if part.geom_type == "Polygon" and part.area]

    whole = shapely.make_valid(shapely.Polygon(outline), method="structure", keep_collapsed=False)
    seen = parts(shapely.intersection(whole, shapely.box(*window)))
    several = len(_touching(parts(whole))) > 1
    groups = [seen] if several and seen else _touching(seen)
    large = [group for group in groups if sum(part.area for part in group) >= _SPECK] or groups
    rings = [[ring for part in group for ring in _rings(shapely.orient_polygons(part))] for group in large]
    return sorted((tuple(_within(point, window) for point in joined(one)) for one in rings), key=bounds)


def _touching(parts: Sequence[Any]) -> list[list[Any]]:
    groups: list[list[Any]] = []
    for part in parts:
        near = [group for group in groups if any(part.intersects(other) for other in group)]
        groups = [group for group in groups if group not in near]
        groups.append([part, *(other for group in near for other in group)])
    return groups


def _rings(part: Any) -> list[list[tuple[float, float]]]:
    return [list(ring.coords)[:-1] for ring in (part.exterior, *part.interiors)]


def _within(point: tuple[float, float], window: Box) -> tuple[float, float]:
    """The point, without a rounding error beyond the window."""
    (x, y), (x0, y0, x1, y1) = point, window
    return min(max(x, x0), x1), min(max(y, y0), y1)


def _moved(name: str, box: Box, outline: Polygon, window: Box) -> Thing:
    left, top = window[:2]
    x0, y0, x1, y1 = box
    return Thing(name, (x0 - left, y0 - top, x1 - left, y1 - top), tuple((x - left, y - top) for x, y in outline))


def _holds(window: Box, box: Box) -> bool:
    return window[0] <= box[0] and window[1] <= box[1] and box[2] <= window[2] and box[3] <= window[3]


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
