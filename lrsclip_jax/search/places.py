"""Where the tiles of a scene lie on Earth: footprints in longitude and latitude, and how many metres a pixel measures.

Positions are rasterio's: by the scene's transform or its control points into its CRS, and from there to WGS 84.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

from lrsclip_jax.data.geotiff import imported
from lrsclip_jax.data.rasters import Survey

_WGS84 = "EPSG:4326"
_AXIS, _FLATTENING = 6378137.0, 1 / 298.257223563  # of WGS 84: the longer half axis in metres
# Of its diagonal: an edge that bends by more on the way from the scene's CRS to longitude and latitude gets corners.
_STRAIGHT = 1e-3
_BENDS = 16  # parts of such an edge

ToEarth = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Place:
    """Where a scene lies.

    Attributes:
      crs: of the scene, such as "EPSG:32632" or WKT; None without one.
      to_earth: (columns, rows) in pixels, float64 [N], to (longitudes, latitudes) in degrees; None where that is not
        known.
      metres: side of a pixel on the ground, in the middle of the scene; None where it is not known.
      unplaced: why `to_earth` is None.
    """

    crs: str | None
    to_earth: ToEarth | None
    metres: float | None
    unplaced: str | None


def place_of(scene: Survey) -> Place:
    """Returns where a surveyed scene lies; nothing is raised, `unplaced` says what is missing."""
    georeference = scene.georeference
    if georeference is None:
        return Place(None, None, None, f"it {scene.unplaced}" if scene.unplaced else "it has no coordinates")
    if georeference.crs is None:
        return Place(None, None, None, "its coordinates are of no named system (CRS)")
    crs = georeference.crs.to_string()
    to_earth = _to_earth(georeference)
    middle = np.array([scene.width / 2]), np.array([scene.height / 2])
    try:
        if not np.isfinite(to_earth(*middle)).all():
            raise ValueError("outside the domain of its projection")
    except Exception:  # GDAL's, of many kinds: another planet, a projection without an inverse
        return Place(
            crs, None, _metres_of_map(georeference), "its CRS does not lead to longitude and latitude on Earth"
        )
    return Place(crs, to_earth, float(pixel_metres(to_earth, *middle)[0]), None)


def footprints(place: Place, windows: np.ndarray) -> list[Any]:
    """Returns the footprints of windows, int64 [N, 4]: shapely polygons or, across the date line, multipolygons.

    None for all where the scene has no place, and for one of which a corner has none. Rings run counterclockwise.
    """
    if place.to_earth is None or not len(windows):
        return [None] * len(windows)
    lons, lats = _ring(place.to_earth, windows, 2)
    if _bent(lons, lats):
        lons, lats = _ring(place.to_earth, windows, _BENDS)
    else:
        lons, lats = lons[:, ::2], lats[:, ::2]
    return [_polygon(lon, lat) for lon, lat in zip(lons, lats, strict=True)]


def pixel_metres(to_earth: ToEarth, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns the side of a square as large as the pixel around each place, in metres on the ground: float64 [N]."""
    there = np.stack([columns, columns, columns + 1, columns]), np.stack([rows, rows, rows, rows + 1])
    lons, lats = (values.reshape(4, -1) for values in to_earth(there[0].ravel(), there[1].ravel()))
    east, north = _metres(lons[2:] - lons[:2], lats[2:] - lats[:2], lats[0])
    return np.sqrt(np.abs(east[0] * north[1] - east[1] * north[0]))


def _metres(lons: np.ndarray, lats: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Small steps in degrees as metres to the east and to the north, at a latitude."""
    squared = _FLATTENING * (2 - _FLATTENING)
    bend = 1 - squared * np.sin(np.radians(at)) ** 2
    lons = (lons + 180) % 360 - 180
    east = np.radians(lons) * np.cos(np.radians(at)) * _AXIS / np.sqrt(bend)
    return east, np.radians(lats) * _AXIS * (1 - squared) / bend**1.5


def _metres_of_map(georeference: Any) -> float | None:
    try:
        return float(abs(georeference.transform.determinant) ** 0.5 * georeference.crs.linear_units_factor[1])
    except Exception:  # degrees, or no unit that rasterio knows
        return None


def _to_earth(georeference: Any) -> ToEarth:
    rasterio = imported("places")
    from rasterio.transform import GCPTransformer
    from rasterio.warp import transform

    control = GCPTransformer(georeference.points) if georeference.points else None

    def to_earth(columns: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if control:
            xs, ys = control.xy(rows.tolist(), columns.tolist(), offset="ul")
        else:
            a, b, c, d, e, f = tuple(georeference.transform)[:6]
            xs, ys = a * columns + b * rows + c, d * columns + e * rows + f
        with rasterio.Env():
            lons, lats = transform(georeference.crs, _WGS84, np.asarray(xs).tolist(), np.asarray(ys).tolist())
        return np.array(lons), np.array(lats)

    return to_earth


def _ring(to_earth: ToEarth, windows: np.ndarray, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """The edges of windows, each in `parts`, from the first corner on: float64 [N, 4 · parts]."""
    r0, r1, c0, c1 = windows.T[..., None].astype(np.float64)
    share = np.arange(parts) / parts
    down, along = r0 + (r1 - r0) * share, c0 + (c1 - c0) * share
    up, back = r1 + (r0 - r1) * share, c1 + (c0 - c1) * share
    flat = np.zeros_like(share)
    rows = np.concatenate([down, r1 + flat, up, r0 + flat], axis=1)
    columns = np.concatenate([c0 + flat, along, c1 + flat, back], axis=1)
    lons, lats = to_earth(columns.ravel(), rows.ravel())
    return lons.reshape(rows.shape), lats.reshape(rows.shape)


def _bent(lons: np.ndarray, lats: np.ndarray) -> bool:
    """Whether the middle of an edge lies off the line between its corners; of rings of eight points."""
    finite = np.isfinite(lons).all(axis=1) & np.isfinite(lats).all(axis=1)
    if not finite.any():
        return False
    points = np.stack([np.unwrap(lons[finite], period=360), lats[finite]])
    if (np.abs(points[1]) > 85).any():  # near a pole
        return True
    ends = points[..., ::2]
    off = np.hypot(*(points[..., 1::2] - (ends + np.roll(ends, -1, axis=2)) / 2)).max(axis=1)
    diagonals = np.hypot(*(points.max(axis=2) - points.min(axis=2)))
    return bool((off > _STRAIGHT * diagonals).any())


def _polygon(lons: np.ndarray, lats: np.ndarray) -> Any:
    if not (np.isfinite(lons).all() and np.isfinite(lats).all()):
        return None
    path = np.unwrap(np.append(lons, lons[0]), period=360)
    turn = path[-1] - path[0]
    if abs(turn) < 180:
        ring = np.stack([path[:-1], lats], axis=1)
    else:  # around a pole: on to the pole, along it, and back
        pole = 90.0 if lats.mean() > 0 else -90.0
        ring = np.stack([[*path, path[-1], path[0]], [*lats, lats[0], pole, pole]], axis=1)
    ring[:, 0] -= 360 * np.floor((ring[:, 0].min() + 180) / 360)
    shape = shapely.Polygon(ring)
    if ring[:, 0].max() <= 180:
        return shapely.orient_polygons(shape)
    if not shape.is_valid:
        shape = shapely.make_valid(shape)
    pieces = []
    for turns in range(int((ring[:, 0].max() + 180) // 360) + 1):
        west = -180 + 360 * turns
        piece = shapely.intersection(shape, shapely.box(west, -90, west + 360, 90))
        shifted = shapely.transform(piece, lambda points, west=west: points - [west + 180, 0])
        pieces += [part for part in shapely.get_parts(shifted) if part.geom_type == "Polygon" and part.area > 0]
    return shapely.orient_polygons(shapely.union_all(pieces))  # around a pole two pieces have an edge in common


def bounds(shapes: Sequence[Any]) -> list[dict[str, float] | None]:
    """Returns the bounding boxes of shapes as rows of tiles.parquet hold them; None of None."""
    boxes = shapely.bounds(np.array(shapes, dtype=object)) if len(shapes) else []
    names = ("xmin", "ymin", "xmax", "ymax")
    return [
        None if shape is None else dict(zip(names, map(float, box), strict=True))
        for shape, box in zip(shapes, boxes, strict=True)
    ]
