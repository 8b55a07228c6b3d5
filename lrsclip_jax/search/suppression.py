"""Overlapping tiles of one place count once: of tiles that share ground, the one that scores highest is kept."""

from __future__ import annotations

import numpy as np
import shapely

from lrsclip_jax.search.tiles import Tiles

SHARED = 0.1  # of the smaller footprint: neighbours that overlap by a quarter share more, those at a corner less


def kept(tiles: Tiles, rows: np.ndarray, most: int, shared: float = SHARED) -> np.ndarray:
    """Returns the places in `rows` of the tiles to keep, int64 [K], at most `most`.

    A tile is left out where it shares more than `shared` of the smaller footprint with one that is kept. Tiles of one
    scene are compared by their windows, of whichever level; tiles of several scenes by their footprints on Earth. A
    tile without a footprint, or with a point for one, is compared within its scene alone.

    Args:
      tiles: of the index.
      rows: of tiles, best first, int64 [N].
      most: tiles to keep.
      shared: between 0 and 1; with 1 every tile is kept.
    """
    scenes, windows = tiles.scenes[1][rows], tiles.windows[rows].astype(np.float64)
    areas = np.prod(windows[:, 1::2] - windows[:, ::2], axis=1)
    boxes = tiles.boxes[rows]
    shapes = _shapes(tiles, rows, boxes, scenes)
    grounds = shapely.area(shapes)
    chosen: list[int] = []
    for place in range(len(rows)):
        if len(chosen) == most:
            break
        better = np.array(chosen, np.int64)
        same = better[scenes[better] == scenes[place]]
        low, high = np.maximum(windows[same], windows[place]), np.minimum(windows[same], windows[place])
        common = np.prod(np.maximum(high[:, 1::2] - low[:, ::2], 0), axis=1)
        if (common > shared * np.minimum(areas[same], areas[place])).any():
            continue
        others = better[scenes[better] != scenes[place]]
        others = others[_meet(boxes[others], boxes[place])] if grounds[place] > 0 else others[:0]
        common = shapely.area(shapely.intersection(shapes[others], shapes[place]))
        if (common > shared * np.minimum(grounds[others], grounds[place])).any():
            continue
        chosen.append(place)
    return np.array(chosen, np.int64)


def _meet(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    apart = (boxes[:, :2] >= box[2:]) | (boxes[:, 2:] <= box[:2])
    return ~np.any(apart, axis=1)


def _shapes(tiles: Tiles, rows: np.ndarray, boxes: np.ndarray, scenes: np.ndarray) -> np.ndarray:
    """The footprints of tiles that may share ground with one of another scene, object [N]; None for all others."""
    shapes = np.full(len(rows), None, object)
    placed = np.flatnonzero(np.isfinite(boxes[:, 0]))
    tree = shapely.STRtree(shapely.box(*boxes[placed].T))
    a, b = tree.query(tree.geometries, predicate="intersects")
    meeting = np.unique(placed[a[scenes[placed[a]] != scenes[placed[b]]]])
    if len(meeting):
        wkb = tiles.take(rows[meeting], ["geometry"]).column(0).to_numpy(zero_copy_only=False)
        shapes[meeting] = shapely.from_wkb(wkb)
    return shapes
