"""Hits as files: GeoJSON, GeoPackage, CSV, and a page that needs nothing but a browser."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from eval.whole import whole
from lrsclip_jax.errors import InputError
from lrsclip_jax.search.hits import Hit, Hits

CSV_COLUMNS = (
    *("rank", "id", "scene", "level", "cosine", "percentile", "z", "longitude", "latitude"),
    *("west", "south", "east", "north", "row_start", "row_stop", "col_start", "col_stop", "crs", "gsd", "date", "wkt"),
)


def geojson(hits: Hits) -> dict[str, Any]:
    """Returns a FeatureCollection of RFC 7946: longitude and latitude, outer rings counterclockwise."""
    return {
        "type": "FeatureCollection",
        "query": hits.asked,
        "verdict": hits.verdict,
        "notes": list(hits.notes),
        "features": [_feature(hit) for hit in hits],
    }


def geojson_text(hits: Hits) -> str:
    """Returns `geojson` as text."""
    return json.dumps(geojson(hits), ensure_ascii=False, allow_nan=False) + "\n"


def write(hits: Hits, path: Path, page: Callable[[Hits], str] | None = None) -> None:
    """Writes a .geojson (or .json), .gpkg, .csv or .html file, whole or not at all.

    Args:
      hits: what to write.
      path: its ending says what is written.
      page: makes the page; by default one without pictures.

    Raises:
      InputError: another ending, or the file can't be written.
    """
    check_ending(path)
    if path.suffix.lower() == ".html":
        from lrsclip_jax.search.found_page import found_page

        data = (page or found_page)(hits).encode()
    else:
        data = _KINDS[path.suffix.lower()](hits)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"can't write {path}: {error.strerror or error}") from None
    with whole(path) as partial:
        partial.write_bytes(data)


def check_ending(path: Path) -> None:
    """Raises InputError for a file of a kind that is not written here."""
    if path.suffix.lower() not in _KINDS and path.suffix.lower() != ".html":
        raise InputError(f"{path}: expected a name that ends in {', '.join(_KINDS)} or .html")


def csv_text(hits: Hits) -> str:
    """Returns the hits as CSV, RFC 4180, places as longitude, latitude, bounding box and WKT in WGS 84."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(CSV_COLUMNS)
    for hit in hits:
        values: dict[str, Any] = hit.properties()
        values |= dict(zip(("longitude", "latitude"), hit.place or (), strict=False))
        values |= dict(zip(("west", "south", "east", "north"), hit.bbox or (), strict=False))
        values["wkt"] = None if hit.geometry is None else shapely.to_wkt(hit.geometry, rounding_precision=-1)
        writer.writerow([_cell(values.get(name)) for name in CSV_COLUMNS])
    return file.getvalue()


def gpkg_bytes(hits: Hits) -> bytes:
    """Returns the hits as a GeoPackage with one layer, "found", in WGS 84."""
    try:
        from pyogrio.raw import write as write_layer
    except ImportError:
        raise InputError("a GeoPackage needs pyogrio: pip install 'lrsclip_jax[search]'") from None
    table = hits.table().drop_columns(["geometry"])
    points = all(shape is None or shape.geom_type == "Point" for shape in (hit.geometry for hit in hits))
    shapes = [hit.geometry if points else _many(hit.geometry) for hit in hits]
    values, masks = [], []
    for name, column in zip(table.column_names, table.columns, strict=True):
        null = column.is_null().to_numpy()
        if name == "date":
            values.append(column.cast("timestamp[ms]").to_numpy().astype("datetime64[ms]"))
        else:
            filler = "" if name in ("id", "scene", "crs") else 0
            values.append(column.fill_null(filler).to_numpy(zero_copy_only=False))
        masks.append(null)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.gpkg"
        write_layer(
            path,
            geometry=np.array([None if shape is None else shapely.to_wkb(shape) for shape in shapes], object),
            field_data=values,
            fields=table.column_names,
            field_mask=masks,
            driver="GPKG",
            layer="found",
            geometry_type="Point" if points else "MultiPolygon",
            crs="EPSG:4326",
        )
        return path.read_bytes()


def _feature(hit: Hit) -> dict[str, Any]:
    feature: dict[str, Any] = {"type": "Feature", "id": hit.id, "geometry": None, "properties": hit.properties()}
    if hit.geometry is not None:
        turned = shapely.orient_polygons(hit.geometry)  # exterior counterclockwise: the right-hand rule
        feature |= {"bbox": list(hit.bbox or ()), "geometry": json.loads(shapely.to_geojson(turned))}
    return feature


def _many(shape: shapely.Geometry | None) -> shapely.Geometry | None:
    return shapely.MultiPolygon([shape]) if shape is not None and shape.geom_type == "Polygon" else shape


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula gets an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


_KINDS: Mapping[str, Callable[[Hits], bytes]] = {
    ".geojson": lambda hits: geojson_text(hits).encode(),
    ".json": lambda hits: geojson_text(hits).encode(),
    ".gpkg": gpkg_bytes,
    ".csv": lambda hits: csv_text(hits).encode(),
}
