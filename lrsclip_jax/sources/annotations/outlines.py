"""Outlines: a polygon's bounds, and several rings as one polygon."""

from __future__ import annotations

from collections.abc import Sequence

from lrsclip_jax.sources.item import Box

Point = tuple[float, float]
Polygon = tuple[Point, ...]


def bounds(polygon: Polygon) -> Box:
    """Returns the box around the vertices of a polygon."""
    xs, ys = zip(*polygon, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def joined(rings: Sequence[Sequence[Point]]) -> Polygon:
    """Returns rings as one polygon: cuts of no width lead from the first corner of the first to the others.

    With outer rings one way round and holes the other, the polygon's area is that of the rings.
    """
    first, *others = rings
    polygon = list(first)
    for ring in others:
        polygon += [first[0], *ring, ring[0]]
    return tuple([*polygon, first[0]] if others else polygon)
