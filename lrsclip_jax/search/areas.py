"""Areas on Earth that a search is held to: bounding boxes and GeoJSON, also across the date line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import shapely
from shapely import affinity

from eval.reading import parse_json, read_json
from lrsclip_jax.errors import InputError

_WORLD = shapely.box(-180, -90, 180, 90)
_MOST_CORNERS = 1_000_000


def box_area(bbox: Sequence[float] | str) -> shapely.Geometry:
    """Returns the area of a bounding box, split at the date line.

    Args:
      bbox: west, south, east, north in degrees, or a text "west,south,east,north". A west above the east, or an east up
        to 540, goes across the date line.

    Raises:
      InputError: not four numbers, or not degrees.
    """
    said = bbox if isinstance(bbox, str) else ",".join(map(str, bbox))
    try:
        west, south, east, north = map(float, bbox.split(",") if isinstance(bbox, str) else bbox)
    except (TypeError, ValueError):
        raise InputError(
            f"bbox {said!r:.80}: expected west,south,east,north in degrees, such as 11,47,12,48.5"
        ) from None
    if not all(map(math.isfinite, (west, south, east, north))):
        raise InputError(f"bbox {said!r:.80}: not a number")
    if not -90 <= south <= north <= 90:
        raise InputError(f"bbox {said!r:.80}: expected -90 ≤ south ≤ north ≤ 90 (the order is west,south,east,north)")
    if not (-540 <= west <= 540 and -540 <= east <= 540):
        raise InputError(f"bbox {said!r:.80}: west and east are no degrees")
    if west > east:
        east += 360
    if east - west > 360:
        raise InputError(f"bbox {said!r:.80}: wider than the Earth")
    return _onto_earth(shapely.box(west, south, east, north))


def read_area(source: str | os.PathLike[str] | Mapping[str, Any]) -> shapely.Geometry:
    """Returns the area of a GeoJSON file, text or object: a polygon, a feature, or all features of a collection.

    Corners beyond ±180 degrees, as maps give them that are moved across the date line, are brought back.

    Raises:
      InputError: no GeoJSON, no polygon in it, coordinates that are not WGS 84, or nothing enclosed.
    """
    if isinstance(source, Mapping):
        where, value = "the area", dict(source)
    elif isinstance(source, str) and source.lstrip().startswith("{"):
        where, value = "the area", parse_json(source, "the area", dict[str, Any])
    else:
        where, value = str(source), read_json(Path(source), dict[str, Any])
    _check_crs(value, where)
    shapes = [_shape(geometry, where) for geometry in _geometries(value, where)]
    if not shapes:
        raise InputError(f"{where}: no geometry in it, expected a polygon")
    area = _onto_earth(shapely.union_all(shapes))
    if area.is_empty or not area.area > 0:
        raise InputError(f"{where}: the polygon encloses nothing")
    return area


def _geometries(value: Mapping[str, Any], where: str, depth: int = 0) -> list[Mapping[str, Any]]:
    kind = value.get("type")
    if kind in ("Polygon", "MultiPolygon"):
        return [value]
    if kind == "Feature":
        inner = [value.get("geometry")]
    elif kind in ("FeatureCollection", "GeometryCollection"):
        inner = value.get("features" if kind == "FeatureCollection" else "geometries")
        if not isinstance(inner, list):
            raise InputError(f"{where}: a {kind} without a list")
    else:
        raise InputError(f"{where}: expected GeoJSON of polygons, found {kind!r:.40}")
    if depth > 3:
        raise InputError(f"{where}: nested too deep")
    found = []
    for one in inner:
        if one is None:
            continue
        if not isinstance(one, Mapping):
            raise InputError(f"{where}: a feature or geometry that is no object")
        found += _geometries(one, where, depth + 1)
    return found


def _shape(geometry: Mapping[str, Any], where: str) -> shapely.Geometry:
    plain = {"type": geometry["type"], "coordinates": geometry.get("coordinates")}
    try:
        shape = shapely.from_geojson(json.dumps(plain))
    except (shapely.errors.GEOSException, ValueError, RecursionError) as error:
        raise InputError(f"{where}: no valid polygon ({' '.join(str(error).split()):.120})") from None
    if shapely.get_num_coordinates(shape) > _MOST_CORNERS:
        raise InputError(f"{where}: more than {_MOST_CORNERS:,} corners")
    bounds = shape.bounds
    if not all(map(math.isfinite, bounds)):
        raise InputError(f"{where}: the polygon has no corners, or some that are no numbers")
    west, south, east, north = bounds
    if south < -90 or north > 90 or west < -540 or east > 540:
        raise InputError(f"{where}: coordinates are no degrees; GeoJSON is longitude and latitude (WGS 84)")
    return shape if shapely.is_valid(shape) else shapely.make_valid(shape)


def _check_crs(value: Mapping[str, Any], where: str) -> None:
    """GeoJSON of 2008 may name a CRS: only WGS 84 is understood, as of RFC 7946."""
    crs = value.get("crs")
    if crs is None:
        return
    properties = crs.get("properties") if isinstance(crs, Mapping) else None
    name = str(properties.get("name") if isinstance(properties, Mapping) else crs)
    if not name.upper().endswith((":CRS84", "::84", "4326")):
        raise InputError(f"{where}: in {name:.60}; convert it to longitude and latitude (WGS 84)")


def _onto_earth(area: shapely.Geometry) -> shapely.Geometry:
    west, _, east, _ = area.bounds if not area.is_empty else (0, 0, 0, 0)
    if -180 <= west and east <= 180:
        return area
    turns = range(math.floor((west + 180) / 360), math.ceil((east - 180) / 360) + 1)
    parts = [shapely.intersection(affinity.translate(area, -360 * turn), _WORLD) for turn in turns]
    return shapely.union_all(parts)
