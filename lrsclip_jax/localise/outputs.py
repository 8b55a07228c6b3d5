"""The files of a localisation: a grey map, an overlay, and for a georeferenced scene the map as a GeoTIFF."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from eval.selo.maps import overlay
from eval.whole import whole
from lrsclip_jax.data.rasters import AnyScene, Georeference
from lrsclip_jax.errors import InputError
from lrsclip_jax.localise.score_maps import reduced

OVERLAY_SIDE = 4096


def plan_files(out: Path, scene: AnyScene, texts: Sequence[str]) -> list[dict[str, Path]]:
    """Returns the paths of each text's files, by what they are: "map", "overlay" and, georeferenced, "geotiff".

    Makes the folder. Raises InputError where that is impossible, or where one of the files is there already.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: can't be made a folder ({error.strerror})") from None
    if not os.access(out, os.W_OK):
        raise InputError(f"{out}: can't be written to")
    suffixes = {"map": "map.png", "overlay": "overlay.png"} | ({"geotiff": "map.tif"} if scene.georeference else {})
    plan: list[dict[str, Path]] = []
    taken: set[str] = set()
    for text in texts:
        words = re.sub(r"\W+", "-", text.lower()).strip("-")[:60].strip("-") or "text"
        stem = next(name for n in range(1, len(texts) + 1) if (name := f"{words}-{n}" if n > 1 else words) not in taken)
        taken.add(stem)
        plan.append({what: out / f"{scene.path.stem}-{stem}-{suffix}" for what, suffix in suffixes.items()})
    for path in (path for paths in plan for path in paths.values()):
        if path.exists():
            raise InputError(f"{path} is there already: choose another --out")
    return plan


def write_files(
    paths: dict[str, Path], scene: AnyScene, grey: np.ndarray, missing: np.ndarray | None, factor: int
) -> None:
    """Writes the files of one map, uint8 [H, W], a pixel of which is `factor` pixels of the scene.

    Where the scene has no data (`missing`, bool [H, W]), the overlay has no colour, and 0 in the GeoTIFF means no data.
    """
    with whole(paths["map"]) as partial:
        Image.fromarray(grey).save(partial, "PNG")
    picture = picture_of(scene, grey, missing)
    with whole(paths["overlay"]) as partial:
        Image.fromarray(picture).save(partial, "PNG")
    if scene.georeference:
        with whole(paths["geotiff"]) as partial:
            write_geotiff(partial, grey, scene.georeference, factor, nodata=None if missing is None else 0)


def picture_of(scene: AnyScene, grey: np.ndarray, missing: np.ndarray | None = None) -> np.ndarray:
    """Returns the scene under its map, uint8 [h, w, 3] with at most 4,096 pixels a side."""
    by = -(-max(scene.height, scene.width) // OVERLAY_SIDE)
    height, width = reduced(scene.height, scene.width, by)
    if grey.shape != (height, width):
        grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    shown = scene.overview(height, width)
    picture = overlay(shown, grey)
    if missing is not None:
        gaps = cv2.resize(missing.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
        picture[gaps] = shown[gaps]
    return picture


def write_geotiff(
    path: Path, grey: np.ndarray, georeference: Georeference, factor: int, nodata: int | None = None
) -> None:
    """Writes a map, uint8 [H, W], with the scene's coordinates for pixels `factor` as large.

    That is the scene's CRS, and its transform or, where it has them, its control points.
    """
    import rasterio

    place = {"transform": georeference.transform * rasterio.Affine.scale(factor)}
    if georeference.points:
        points = [
            rasterio.control.GroundControlPoint(point.row / factor, point.col / factor, point.x, point.y, point.z)
            for point in georeference.points
        ]
        place = {"gcps": points}
    height, width = grey.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=1,
        dtype="uint8",
        crs=georeference.crs,
        nodata=nodata,
        **place,
        compress="deflate",
    ) as file:
        file.write(grey, 1)
