"""What the page tells of an archive before anyone asks: counts, bounds, dates, scenes, and some of its tiles."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import shapely

from lrsclip_jax.search import tiles_table
from lrsclip_jax.search.index import Index

LISTED = 2_000  # scenes that the page is told of
_EDGES = ("row_start", "row_stop", "col_start", "col_stop")
_COLUMNS = ("id", "geometry", "gsd", "date")


def facts(index: Index, boxes: np.ndarray) -> dict[str, Any]:
    """Returns counts, bounds, dates and scenes.

    Args:
      index: of the archive.
      boxes: from `footprint_boxes`.
    """
    indexed = [row for row in index.scenes.values() if row["status"] == tiles_table.INDEXED]
    dates = sorted(row["date"] for row in indexed if row["date"])
    return {
        "tiles": len(index),
        "scenes": len(indexed),
        "set_aside": len(index.scenes) - len(indexed),
        "placed": int(np.isfinite(boxes[:, 0]).sum()),
        "bounds": bounds(boxes),
        "first": dates[0].date().isoformat() if dates else None,
        "last": dates[-1].date().isoformat() if dates else None,
        "names": [row["scene"] for row in indexed[:LISTED]],
    }


def footprint_boxes(index: Index) -> np.ndarray:
    """Returns west, south, east, north of each tile, float64 [N, 4]; NaN without a place.

    Of footprints that are split at the date line west is above east.
    """
    boxes = np.array(index.tiles.boxes)
    split = np.flatnonzero(boxes[:, 2] - boxes[:, 0] > 180)
    if len(split):
        column = index.tiles.take(split, ["geometry"]).column(0).combine_chunks()
        for row, shape in zip(split, shapely.from_wkb(column.to_numpy(zero_copy_only=False)), strict=True):
            parts = shapely.bounds(shapely.get_parts(shape))
            western, eastern = parts[parts[:, 0] >= 0], parts[parts[:, 2] <= 0]
            if len(western) and len(eastern):
                boxes[row, 0], boxes[row, 2] = western[:, 0].min(), eastern[:, 2].max()
    return boxes


def bounds(boxes: np.ndarray) -> list[float] | None:
    """Returns west, south, east, north of all boxes; east beyond 180 where that is narrower. None without a place."""
    placed = boxes[np.isfinite(boxes[:, 0])]
    if not len(placed):
        return None
    west, south, east, north = placed.T
    east = np.where(west > east, east + 360, east)
    turn = np.where(west < 0, 360, 0)
    spans = [(west.min(), east.max()), ((west + turn).min(), (east + turn).max())]
    left, right = min(spans, key=lambda span: span[1] - span[0])
    return [float(left), float(south.min()), float(right), float(north.max())]


def sample(index: Index, count: int) -> list[dict[str, Any]]:
    """Returns tiles spread evenly over the archive, as GeoJSON features without scores."""
    rows = spread_rows(index, count)
    names, of_tile = index.tiles.scenes
    return [
        {
            "type": "Feature",
            "id": found["id"],
            "geometry": _geometry(found["geometry"]),
            "properties": {
                "id": found["id"],
                "scene": names[of_tile[row]],
                **dict(
                    zip(
                        ("row_start", "row_stop", "col_start", "col_stop"),
                        index.tiles.windows[row].tolist(),
                        strict=True,
                    )
                ),
                "gsd": found["gsd"],
                "date": found["date"] and found["date"].isoformat(),
            },
        }
        for row, found in zip(rows, index.tiles.take(rows, _COLUMNS).to_pylist(), strict=True)
    ]


def spread_rows(index: Index, count: int) -> np.ndarray:
    """Returns rows spread evenly over the archive, int64 [at most `count`]."""
    return np.unique(np.linspace(0, len(index) - 1, min(count, len(index))).astype(np.int64))


def _geometry(shape: bytes | None) -> dict[str, Any] | None:
    return json.loads(shapely.to_geojson(shapely.from_wkb(shape))) if shape else None
