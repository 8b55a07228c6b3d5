"""The tiles of an open index: small columns are held as arrays, the rest is read row by row from tiles.parquet."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lrsclip_jax.errors import InputError
from lrsclip_jax.search import tiles_table

_GROUPS = 1024  # row groups of small columns that are held, 0.1 MB each
_REMEMBERED = 16  # masks


class Tiles:
    """tiles.parquet, open. Threads may share one; an index that is written again meanwhile does not change it.

    Raises:
      InputError: the file is missing, torn, or no such table.
    """

    def __init__(self, path: Path):
        self._path = path
        self._lock = threading.Lock()
        self._file = tiles_table.open_tiles(path)
        groups = [self._file.metadata.row_group(number).num_rows for number in range(self._file.num_row_groups)]
        self._ends = np.cumsum(groups, dtype=np.int64)
        self._group = lru_cache(_GROUPS)(self._read_group)
        self._masks: OrderedDict[bytes, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return self._file.metadata.num_rows

    @cached_property
    def boxes(self) -> np.ndarray:
        """West, south, east, north of each footprint, float64 [N, 4]; NaN where a tile has no place."""
        bbox = self._whole(["bbox"]).column("bbox").combine_chunks()
        sides = [pc.struct_field(bbox, side) for side in ("xmin", "ymin", "xmax", "ymax")]
        return np.stack([side.to_numpy(zero_copy_only=False) for side in sides], axis=1)

    @cached_property
    def windows(self) -> np.ndarray:
        """Rows and columns of the scene that each tile shows, half open, int32 [N, 4]: r0, r1, c0, c1."""
        names = ["row_start", "row_stop", "col_start", "col_stop"]
        table = self._whole(names)
        return np.stack([table.column(name).to_numpy() for name in names], axis=1)

    @cached_property
    def dates(self) -> np.ndarray:
        """When each tile was taken, datetime64[ms] [N] in UTC; NaT where that is not known."""
        column = self._whole(["date"]).column("date").cast(pa.timestamp("ms"))
        return column.to_numpy().astype("datetime64[ms]")

    @cached_property
    def scenes(self) -> tuple[list[str], np.ndarray]:
        """The names of the scenes that have tiles, and the number of each tile's scene among them, int32 [N]."""
        column = self._whole(["scene"]).column("scene").combine_chunks().dictionary_encode()
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        return column.dictionary.to_pylist(), column.indices.to_numpy(zero_copy_only=False).astype(np.int32)

    def take(self, rows: Sequence[int] | np.ndarray, columns: Sequence[str]) -> pa.Table:
        """Returns some columns of some rows, in the order of `rows`."""
        rows = np.asarray(rows, np.int64)
        groups = np.searchsorted(self._ends, rows, "right")
        tables, places = [self._file.schema_arrow.empty_table().select(list(columns))], np.empty(len(rows), np.int64)
        filled = 0
        for group in np.unique(groups):
            chosen = np.flatnonzero(groups == group)
            start = self._ends[group - 1] if group else 0
            read = self._read_group if "thumbnail" in columns else self._group
            tables.append(read(int(group), tuple(columns)).take(pa.array(rows[chosen] - start)))
            places[chosen] = np.arange(filled, filled + len(chosen))
            filled += len(chosen)
        return pa.concat_tables(tables).take(pa.array(places))

    def rows_of(self, ids: Sequence[str]) -> list[int]:
        """Returns the rows of tiles by their ids; InputError for one that the index lacks."""
        found = pc.index_in(pa.array(ids, pa.string()), self._whole(["id"]).column("id").combine_chunks())
        for name, row in zip(ids, found.to_pylist(), strict=True):
            if row is None:
                raise InputError(f"the index has no tile {name!r:.200}")
        return found.to_pylist()

    def remembered(self, name: bytes, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Returns a mask over the tiles by its name, made if it is not among the last few."""
        with self._lock:
            found = self._masks.get(name)
        if found is None:
            found = make()
            with self._lock:
                self._masks[name] = found
                while len(self._masks) > _REMEMBERED:
                    self._masks.popitem(last=False)
        return found

    def _read_group(self, number: int, columns: tuple[str, ...]) -> pa.Table:
        with self._lock, tiles_table.reading(self._path):
            return self._file.read_row_group(number, list(columns))

    def _whole(self, columns: Sequence[str]) -> pa.Table:
        with self._lock, tiles_table.reading(self._path):
            return self._file.read(list(columns))
