"""The tables of an index: tiles.parquet, GeoParquet 1.1 with a row a tile, and scenes.parquet with a row a scene.

GeoPandas, DuckDB and QGIS open tiles.parquet. Its rows are those of images.npy, in the same order.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from eval.whole import whole
from lrsclip_jax.errors import InputError

TILES, SCENES = "tiles.parquet", "scenes.parquet"
GROUP = 512  # rows of a row group: what is held in memory, and what is read for the thumbnail of one tile
_MOMENT = pa.timestamp("ms", tz="UTC")
_BBOX = ("xmin", "ymin", "xmax", "ymax")

# GeoParquet without a CRS is longitude and latitude, WGS 84.
_GEO = {
    "version": "1.1.0",
    "primary_column": "geometry",
    "columns": {
        "geometry": {
            "encoding": "WKB",
            "geometry_types": ["MultiPolygon", "Point", "Polygon"],
            "orientation": "counterclockwise",
            "covering": {"bbox": {side: ["bbox", side] for side in _BBOX}},
        }
    },
}

# Columns of tiles.parquet. The geometry is the footprint, a polygon or, across the date line, two; of a photograph the
# point where it was taken; null where a scene has no place on Earth.
TILE_SCHEMA = pa.schema(
    {
        "geometry": pa.binary(),
        "bbox": pa.struct({side: pa.float64() for side in _BBOX}),
        "id": pa.string(),
        "scene": pa.string(),
        "level": pa.int32(),
        "row_start": pa.int32(),
        "row_stop": pa.int32(),
        "col_start": pa.int32(),
        "col_stop": pa.int32(),
        "crs": pa.string(),
        "gsd": pa.float64(),
        "date": _MOMENT,
        "thumbnail": pa.binary(),
    },
    {"geo": json.dumps(_GEO)},
)

# Columns of scenes.parquet. `modified` is the file's time of change in nanoseconds. `fingerprint` tells whether a scene
# has changed. `reason` says why a scene is set aside, or why an indexed one has no place.
SCENE_SCHEMA = pa.schema(
    {
        "scene": pa.string(),
        "source": pa.string(),
        "size": pa.int64(),
        "modified": pa.int64(),
        "fingerprint": pa.string(),
        "height": pa.int32(),
        "width": pa.int32(),
        "crs": pa.string(),
        "transform": pa.list_(pa.float64()),
        "tiles": pa.int32(),
        "empty": pa.int32(),
        "date": _MOMENT,
        "status": pa.string(),
        "reason": pa.string(),
    }
)
INDEXED, SET_ASIDE = "indexed", "set aside"


def tile_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Returns rows of tiles.parquet as a table; a column that a row lacks is null."""
    return pa.Table.from_pylist(list(rows), TILE_SCHEMA)


def write_tiles(path: str | os.PathLike[str], tables: Iterable[pa.Table]) -> int:
    """Writes tiles.parquet, whole or not at all, and returns how many rows it has.

    The bytes depend on the rows alone, not on how they are spread over `tables`. A few row groups are in memory.
    """
    rows = 0
    with whole(path) as partial, pq.ParquetWriter(partial, TILE_SCHEMA, write_page_checksum=True) as writer:
        for group in regrouped(tables, GROUP):
            writer.write_table(group, row_group_size=GROUP)
            rows += len(group)
    return rows


def write_scenes(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes scenes.parquet, whole or not at all."""
    with whole(path) as partial:
        pq.write_table(pa.Table.from_pylist(list(rows), SCENE_SCHEMA), partial, write_page_checksum=True)


def read_tiles(path: str | os.PathLike[str], columns: Sequence[str] | None = None) -> pa.Table:
    """Returns tiles.parquet, or some of its columns; InputError where it is missing, torn, or no such table."""
    return _read(path, TILE_SCHEMA, columns)


def read_scenes(path: str | os.PathLike[str]) -> pa.Table:
    """Returns scenes.parquet; InputError as of `read_tiles`."""
    return _read(path, SCENE_SCHEMA, None)


def read_tile_groups(path: str | os.PathLike[str]) -> Iterator[pa.Table]:
    """Yields the row groups of tiles.parquet one after the other; InputError as of `read_tiles`."""
    with _opened(path, TILE_SCHEMA) as file:
        for number in range(file.num_row_groups):
            yield file.read_row_group(number)


def regrouped(tables: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """Yields the rows of `tables` in tables of `size` rows, the last one maybe of fewer."""
    held: list[pa.Table] = []
    count = 0
    for table in tables:
        while count + len(table) >= size:
            fitting = size - count
            yield pa.concat_tables([*held, table.slice(0, fitting)]).combine_chunks()
            table, held, count = table.slice(fitting), [], 0
        if len(table):
            held.append(table)
            count += len(table)
    if count:
        yield pa.concat_tables(held).combine_chunks()


def _read(path: str | os.PathLike[str], schema: pa.Schema, columns: Sequence[str] | None) -> pa.Table:
    with _opened(path, schema) as file:
        return file.read(columns)


def open_tiles(path: str | os.PathLike[str]) -> pq.ParquetFile:
    """Returns tiles.parquet, open; for a caller that reads it within `reading`; InputError as of `read_tiles`."""
    return _open(path, TILE_SCHEMA)


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns the errors of a block that reads a Parquet file into InputErrors."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        said = " ".join(str(error).split())
        raise InputError(f"{path}: torn, or no Parquet file ({said:.200})") from None


@contextmanager
def _opened(path: str | os.PathLike[str], schema: pa.Schema) -> Iterator[pq.ParquetFile]:
    with _open(path, schema) as file, reading(path):
        yield file


def _open(path: str | os.PathLike[str], schema: pa.Schema) -> pq.ParquetFile:
    """Opens a Parquet file that has the columns of a schema."""
    if not Path(path).is_file():
        raise InputError(f"{path} is missing")
    with reading(path):
        file = pq.ParquetFile(path, page_checksum_verification=True)
    found = file.schema_arrow
    for column in schema:
        if column.name not in found.names:
            raise InputError(f"{path}: the column '{column.name}' is missing")
        if found.field(column.name).type != column.type:
            kind = found.field(column.name).type
            raise InputError(f"{path}: the column '{column.name}' is {kind}, expected {column.type}")
    return file
