"""What a search found: hits in order, as a table for GeoPandas, and as files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import shapely

# WGS 84 with longitude first, as GeoArrow says it.
_GEOARROW = {
    b"ARROW:extension:name": b"geoarrow.wkb",
    b"ARROW:extension:metadata": json.dumps({"crs": "OGC:CRS84", "crs_type": "authority_code"}).encode(),
}


@dataclass(frozen=True)
class Hit:
    """A tile that was found.

    Attributes:
      rank: from 1.
      row: of the index.
      id, scene: of the tile, as the index names them.
      window: rows and columns of the scene that it shows, half open: r0, r1, c0, c1.
      level: of the tile.
      cosine: with the query.
      percentile: per cent of the index's tiles that score no higher.
      z: how unusual that is against neutral texts, see `search.background`.
      geometry: footprint in WGS 84, longitude and latitude; of a photograph its point; None without a place.
      bbox: west, south, east, north of the footprint; west above east across the date line. None without a place.
      crs: of the scene, or None.
      gsd: metres a pixel as the model saw the tile, or None.
      date: when it was taken, in UTC, or None.
    """

    rank: int
    row: int
    id: str
    scene: str
    window: tuple[int, int, int, int]
    level: int
    cosine: float
    percentile: float
    z: float
    geometry: shapely.Geometry | None = field(repr=False)
    bbox: tuple[float, float, float, float] | None
    crs: str | None
    gsd: float | None
    date: datetime | None

    @property
    def place(self) -> tuple[float, float] | None:
        """Longitude and latitude of the middle of the footprint, None without a place."""
        if self.bbox is None:
            return None
        west, south, east, north = self.bbox
        middle = (west + east) / 2 + (180 if west > east else 0)
        return (middle - 360 if middle > 180 else middle), (south + north) / 2

    def properties(self) -> dict[str, Any]:
        """Returns all but the geometry, for JSON."""
        r0, r1, c0, c1 = self.window
        return {
            "rank": self.rank,
            "id": self.id,
            "scene": self.scene,
            "level": self.level,
            "cosine": round(self.cosine, 7),
            "percentile": round(self.percentile, 4),
            "z": round(self.z, 3),
            "row_start": r0,
            "row_stop": r1,
            "col_start": c0,
            "col_stop": c1,
            "crs": self.crs,
            "gsd": self.gsd,
            "date": self.date.isoformat() if self.date else None,
        }


@dataclass(frozen=True)
class Hits(Sequence[Hit]):
    """Hits, best first.

    Attributes:
      asked: the query in words, for headings.
      tiles: how many the index has.
      considered: how many of them the filters let through.
      reached: the highest z that texts of absent things reach in the index, highest first; none for a query with an
        image.
      notes: sentences for the person who asked, such as that a text was cut.
      query: the direction that was searched along, float32 [D]; None where nothing was.
      contrast: the query less the mean of neutral ones, [D]: the direction of heat maps; None where nothing was.
      index_name: of the index.
    """

    found: Sequence[Hit]
    asked: str
    tiles: int
    considered: int
    reached: Sequence[float] = ()
    notes: Sequence[str] = ()
    query: np.ndarray | None = field(default=None, repr=False)
    contrast: np.ndarray | None = field(default=None, repr=False)
    index_name: str = ""

    @overload
    def __getitem__(self, number: int) -> Hit: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Hit]: ...
    def __getitem__(self, number: int | slice) -> Hit | Sequence[Hit]:
        return self.found[number]

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.found)

    @property
    def verdict(self) -> str:
        """A sentence that tells "nothing here" from "found"."""
        if not self.tiles:
            return "The index holds no tiles."
        if not self.considered:
            return f"No tile passes the filters; the index holds {self.tiles:,}."
        best = max(hit.z for hit in self.found)
        if not len(self.reached):
            return f"The best z is {best:.1f}."
        highest = max(self.reached)
        if best > highest:
            return f"Found: the best z is {best:.1f}, texts of absent things reach {highest:.1f} at most."
        return f"Maybe nothing: the best z is {best:.1f}, texts of absent things reach up to {highest:.1f}."

    def table(self) -> pa.Table:
        """Returns a row a hit; the column "geometry" is WKB in WGS 84.

        geopandas.GeoDataFrame.from_arrow(hits.table()) is a GeoDataFrame with its CRS.
        """
        rows = [hit.properties() for hit in self.found]
        for row, hit in zip(rows, self.found, strict=True):
            row["date"] = hit.date
            row["geometry"] = None if hit.geometry is None else shapely.to_wkb(hit.geometry)
        return pa.Table.from_pylist(rows, TABLE_SCHEMA)

    def to_geojson(self) -> dict[str, Any]:
        """Returns a FeatureCollection as RFC 7946 has it."""
        from lrsclip_jax.search.exports import geojson

        return geojson(self)

    def write(self, path: str | Path) -> None:
        """Writes a .geojson, .gpkg, .csv or .html file, whole or not at all.

        A page shows no thumbnails unless `index.write(hits, path)` writes it.

        Raises:
          InputError: another ending, or the file can't be written.
        """
        from lrsclip_jax.search.exports import write

        write(self, Path(path))


TABLE_SCHEMA = pa.schema(
    [
        ("rank", pa.int32()),
        ("id", pa.string()),
        ("scene", pa.string()),
        ("level", pa.int32()),
        ("cosine", pa.float64()),
        ("percentile", pa.float64()),
        ("z", pa.float64()),
        ("row_start", pa.int32()),
        ("row_stop", pa.int32()),
        ("col_start", pa.int32()),
        ("col_stop", pa.int32()),
        ("crs", pa.string()),
        ("gsd", pa.float64()),
        ("date", pa.timestamp("ms", tz="UTC")),
        pa.field("geometry", pa.binary(), metadata=_GEOARROW),
    ]
)
