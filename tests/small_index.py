"""A small search index without a model: random unit rows, and tiles with places, as `lrsclip index` lays it out."""

import io
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import shapely
from PIL import Image

from eval.embeddings import write_set
from lrsclip_jax.search import tiles_table

TILE, STEP = 224, 168


def write_index(folder: Path, *, checkpoint: str = "nothing", dim: int = 16, tiles: int = 4, seed: int = 0) -> Path:
    """Writes an index of three scenes, each of `tiles` × `tiles` tiles that overlap by a quarter.

    "alps.tif" lies near Munich and is of 2023-07-14, "fiji.tif" lies across the date line and is of 2024-02-01,
    "nowhere.tif" has neither place nor date; "torn.tif" is set aside.
    """
    rng = np.random.default_rng(seed)
    rows, scenes = [], []
    places = {
        "alps.tif": (11.0, 47.5, datetime(2023, 7, 14, 10, tzinfo=UTC)),
        "fiji.tif": (179.99, -17.0, datetime(2024, 2, 1, tzinfo=UTC)),
        "nowhere.tif": (None, None, None),
    }
    side = STEP * (tiles - 1) + TILE
    for scene, (west, north, date) in places.items():
        for r in range(0, STEP * tiles, STEP):
            for c in range(0, STEP * tiles, STEP):
                rows.append(_tile(rng, scene, r, c, west, north, date))
        scenes.append(_scene(scene, side, tiles * tiles, date, west, north))
    torn = _scene("torn.tif", None, 0, None, None, None)
    scenes.append(torn | {"status": tiles_table.SET_ASIDE, "reason": "torn or damaged TIFF or JPEG 2000 image"})
    tiles_table.write_tiles(_made(folder) / tiles_table.TILES, [tiles_table.tile_table(rows)])
    tiles_table.write_scenes(folder / tiles_table.SCENES, scenes)
    edges = ("row_start", "row_stop", "col_start", "col_stop")
    of_row = [{"id": row["id"], "scene": row["scene"], "window": [row[edge] for edge in edges]} for row in rows]
    meta = {
        "model": "random",
        "checkpoint": checkpoint,
        "dataset": folder.name,
        "features": "projected",
        "preprocessing": None,
        "index": {"version": 1, "tile": TILE, "overlap": 0.25, "gsd": None, "bands": None, "levels": 1},
    }
    write_set(folder, meta, rng.normal(size=(len(rows), dim)), None, of_row)
    return folder


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _tile(rng, scene, r, c, west, north, date):
    degree = 1e-4  # a pixel, about 11 m
    row = {
        "id": f"{scene}#L0/r{r},c{c}",
        "scene": scene,
        "level": 0,
        "row_start": r,
        "row_stop": r + TILE,
        "col_start": c,
        "col_stop": c + TILE,
        "date": date,
        "thumbnail": _jpeg(rng),
    }
    if west is None:
        return row
    box = (west + c * degree, north - (r + TILE) * degree, west + (c + TILE) * degree, north - r * degree)
    shape = shapely.box(*box)
    if box[2] > 180:  # split at the date line
        there = shapely.box(max(box[0], 180) - 360, box[1], box[2] - 360, box[3])
        shape = shapely.MultiPolygon([shapely.box(box[0], box[1], 180, box[3]), there]) if box[0] < 180 else there
    west, south, east, north = shape.bounds
    bbox = {"xmin": west, "ymin": south, "xmax": east, "ymax": north}
    return row | {"geometry": shapely.to_wkb(shape), "bbox": bbox, "crs": "EPSG:4326", "gsd": 11.0}


def _scene(scene, side, tiles, date, west, north):
    return {
        "scene": scene,
        "source": f"/archive/{scene}",
        "size": 1000,
        "modified": 1,
        "fingerprint": "1000-1",
        "height": side,
        "width": side,
        "crs": None if west is None else "EPSG:4326",
        "transform": None if west is None else [1e-4, 0, west, 0, -1e-4, north],
        "tiles": tiles,
        "empty": 0,
        "date": date,
        "status": tiles_table.INDEXED,
        "reason": None if west is not None or not tiles else "it has no coordinates",
    }


def _jpeg(rng):
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((128, 128)).save(file, "JPEG")
    return file.getvalue()
