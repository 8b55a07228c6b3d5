"""The part of an annotated object that lies in a window."""

from __future__ import annotations

import itertools

from lrsclip_jax.sources.item import Box, Thing

Polygon = tuple[tuple[float, float], ...]


def clip(thing: Thing, window: Box) -> Thing | None:
    """Returns the part of a thing in the window (x0, y0, x1, y1), in the window's own coordinates, or None.

    Where a part of an outline is cut off, the box becomes that of the rest. A thing without a box, whose presence alone
    is known, is returned as it is.
    """
    if thing.box is None:
        return thing
    box = intersection(thing.box, window)
    outline = thing.polygon
    if outline:
        outline = _clipped(outline, window)
        if outline != thing.polygon and box:
            box = intersection(box, bounds(outline)) if outline else None
    if box is None:
        return None
    left, top = window[:2]
    x0, y0, x1, y1 = box
    shifted = tuple((x - left, y - top) for x, y in outline)
    return Thing(thing.name, (x0 - left, y0 - top, x1 - left, y1 - top), shifted)


def visible(box: Box, window: Box) -> float:
    """Returns the share of a box's area that lies in the window."""
    part = intersection(box, window)
    return _area(part) / _area(box) if part else 0.0


def intersection(a: Box, b: Box) -> Box | None:
    """Returns what two boxes share, or None where that has no area."""
    x0, y0, x1, y1 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def bounds(polygon: Polygon) -> Box:
    """Returns the box around the vertices of a polygon."""
    xs, ys = zip(*polygon, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _clipped(polygon: Polygon, window: Box) -> Polygon:
    """Sutherland and Hodgman's: the polygon is cut by one side of the window after the other."""
    for side, (axis, sign) in zip(window, ((0, 1), (1, 1), (0, -1), (1, -1)), strict=True):
        if all(sign * (point[axis] - side) >= 0 for point in polygon):
            continue
        kept: list[tuple[float, float]] = []
        for a, b in itertools.pairwise((polygon[-1], *polygon) if polygon else ()):
            depth_a, depth_b = sign * (a[axis] - side), sign * (b[axis] - side)  # inside: not negative
            if depth_a * depth_b < 0:
                share = depth_a / (depth_a - depth_b)
                crossing = [a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])]
                crossing[axis] = side  # exactly, without a rounding error
                kept.append((crossing[0], crossing[1]))
            if depth_b >= 0:
                kept.append(b)
        polygon = tuple(kept)
    return polygon
