"""What the page needs of an index besides its searches: facts, places, thumbnails, and rows by their ids."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from lrsclip_jax.search import tiles_table
from lrsclip_jax.search.page.sentences import Refusal, shown

_GROUPS = 8  # row groups of thumbnails that are held: about 16 MB each
_COLUMNS = ["id", "scene", "level", "row_start", "row_stop", "col_start", "col_stop", "bbox", "date"]
LISTED = 2_000  # scenes that the page is told of


class Archive:
    """The tables of an index, read once; thumbnails stay on disk."""

    def __init__(self, folder: Path):
        self.folder = folder
        table = tiles_table.read_tiles(folder / tiles_table.TILES, _COLUMNS)
        self.ids = table.column("id")
        self.scene_of_row = np.asarray(table.column("scene").to_numpy(zero_copy_only=False), object)
        edges = ("row_start", "row_stop", "col_start", "col_stop")
        self.windows = np.stack([table.column(edge).to_numpy() for edge in edges], axis=1).astype(np.int64)
        self.finest = table.column("level").to_numpy() == 0
        self.boxes = _boxes(table.column("bbox"), folder)
        rows = tiles_table.read_scenes(folder / tiles_table.SCENES).to_pylist()
        self.scenes: Mapping[str, Mapping[str, Any]] = {row["scene"]: row for row in rows}
        self._file = pq.ParquetFile(folder / tiles_table.TILES, memory_map=True)
        sizes = [self._file.metadata.row_group(group).num_rows for group in range(self._file.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._groups: OrderedDict[int, pa.Table] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _row_of_id(self) -> dict[str, int]:
        return {key: row for row, key in enumerate(self.ids.to_pylist())}

    def row(self, key: str) -> int:
        """Returns the row of a tile's id; Refusal where the archive has none."""
        found = self._row_of_id.get(key)
        if found is None:
            raise Refusal(404, f"The archive has no tile {shown(key)}.")
        return found

    def thumbnail(self, row: int) -> bytes | None:
        """Returns the JPEG of a row, None where the index has none."""
        return self._value(row, "thumbnail")

    def feature(self, row: int) -> dict[str, Any]:
        """Returns a row as a GeoJSON feature, as a search gives it but without scores."""
        shape, date = self._value(row, "geometry"), self._value(row, "date")
        return {
            "type": "Feature",
            "id": self.ids[row].as_py(),
            "geometry": json.loads(shapely.to_geojson(shapely.from_wkb(shape))) if shape else None,
            "properties": {
                "scene": self.scene_of_row[row],
                "window": self.windows[row].tolist(),
                "gsd": self._value(row, "gsd"),
                "date": date and date.isoformat(),
            },
        }

    def _value(self, row: int, column: str) -> Any:
        group = int(np.searchsorted(self._starts, row, "right")) - 1
        with self._lock:
            if group not in self._groups:
                self._groups[group] = self._file.read_row_group(group, ["thumbnail", "geometry", "gsd", "date"])
                while len(self._groups) > _GROUPS:
                    self._groups.popitem(last=False)
            self._groups.move_to_end(group)
            found = self._groups[group]
        return found.column(column)[row - int(self._starts[group])].as_py()

    def sample(self, count: int) -> list[int]:
        """Returns rows of the finest level spread evenly over the archive."""
        rows = np.flatnonzero(self.finest)
        return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)].tolist() if len(rows) else []

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What the page says of the archive: counts, bounds, dates, and its scenes."""
        indexed = [row for row in self.scenes.values() if row["status"] == tiles_table.INDEXED]
        dates = sorted(row["date"] for row in indexed if row["date"])
        return {
            "tiles": len(self),
            "scenes": len(indexed),
            "set_aside": len(self.scenes) - len(indexed),
            "placed": int(np.isfinite(self.boxes[:, 0]).sum()),
            "bounds": _bounds(self.boxes),
            "first": dates[0].date().isoformat() if dates else None,
            "last": dates[-1].date().isoformat() if dates else None,
            "names": [row["scene"] for row in indexed[:LISTED]],
        }


def _boxes(column: pa.ChunkedArray, folder: Path) -> np.ndarray:
    """West, south, east, north, float64 [N, 4], NaN without a place; west is the larger across the date line."""
    box = column.combine_chunks()
    sides = [
        np.asarray(box.field(side).to_numpy(zero_copy_only=False), np.float64)
        for side in ("xmin", "ymin", "xmax", "ymax")
    ]
    boxes = np.stack(sides, axis=1)
    boxes[~np.asarray(box.is_valid())] = np.nan
    split = np.flatnonzero(boxes[:, 2] - boxes[:, 0] > 180)
    if len(split):
        geometry = tiles_table.read_tiles(folder / tiles_table.TILES, ["geometry"]).column(0).take(split)
        for row, shape in zip(split, shapely.from_wkb(geometry.to_numpy()), strict=True):
            parts = shapely.bounds(shapely.get_parts(shape))
            east_of_line = parts[parts[:, 2] <= 0]
            west_of_line = parts[parts[:, 0] >= 0]
            if len(east_of_line) and len(west_of_line):
                boxes[row, 0], boxes[row, 2] = west_of_line[:, 0].min(), east_of_line[:, 2].max()
    return boxes


def _bounds(boxes: np.ndarray) -> list[float] | None:
    """West, south, east, north of all, east beyond 180 where that is narrower; None without a place."""
    placed = boxes[np.isfinite(boxes[:, 0])]
    if not len(placed):
        return None
    east = np.where(placed[:, 0] > placed[:, 2], placed[:, 2] + 360, placed[:, 2])
    plain = (placed[:, 0].min(), east.max())
    turned = (
        np.where(placed[:, 0] < 0, placed[:, 0] + 360, placed[:, 0]).min(),
        np.where(placed[:, 2] < 0, placed[:, 2] + 360, placed[:, 2]).max(),
    )
    west, east_most = min(plain, turned, key=lambda pair: pair[1] - pair[0])
    return [float(west), float(placed[:, 1].min()), float(east_most), float(placed[:, 3].max())]
