"""The files of a localisation: a grey map, an overlay, and for a georeferenced scene the map as a GeoTIFF."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from eval.output import check_folder
from eval.selo.maps import overlay
from eval.whole import remove_leftovers, whole, write_text
from lrsclip_jax.data.rasters import AnyScene, Georeference
from lrsclip_jax.errors import InputError
from lrsclip_jax.localise.score_maps import reduced

if TYPE_CHECKING:
    from lrsclip_jax.localise.finding import Finding  # imports JAX, for which bad input should not wait

OVERLAY_SIDE = 2048
_LEGEND, _WORDS, _BAR = 240, 64, 20  # pixels: the narrowest overlay with a legend, room for words, height of the bar
_LONGEST_STEM = 120  # bytes; the words of a text and the rest take up to 130
_BEGUN = ".localise-{}"
# The words at the ends of a legend, by whether the map is scaled by the background.
_ENDS = {False: ("fits least", "fits best"), True: ("absent", "stands out")}


def plan_files(out: Path, scene: AnyScene, texts: Sequence[str], begun: Path) -> list[dict[str, Path]]:
    """Returns the paths of each text's files, by what they are: "map", "overlay" and "found".

    For a georeferenced scene there are also "geotiff" and "geojson".

    Raises InputError where one of them is there already, unless `unfinished` has left the file `begun`.
    """
    suffixes = {"map": "map.png", "overlay": "overlay.png", "found": "found.json"}
    if scene.georeference:
        suffixes |= {"geotiff": "map.tif", "geojson": "found.geojson"}
    plan: list[dict[str, Path]] = []
    taken: set[str] = set()
    for text in texts:
        words = re.sub(r"\W+", "-", text.lower()).strip("-")[:60].strip("-") or "text"
        stem = next(name for n in range(1, len(texts) + 1) if (name := f"{words}-{n}" if n > 1 else words) not in taken)
        taken.add(stem)
        plan.append(
            {what: out / f"{_short(Path(scene.path).stem)}-{stem}-{suffix}" for what, suffix in suffixes.items()}
        )
    if not begun.exists():
        for path in _files(plan):
            if path.exists():
                raise InputError(f"{path} is there already: choose another --out")
    return plan


def check_out(out: Path, scene: Path) -> None:
    """Raises InputError unless `out` is new, holds maps or is the scene's; see `eval.output.check_folder`."""

    def ours(folder: Path) -> bool:
        made = any(folder.glob("*-map.png")) or any(folder.glob(_BEGUN.format("*")))
        return made or (folder / scene.name).exists()

    check_folder(out, ours)


def begun_by(out: Path, about: Mapping[str, Any]) -> Path:
    """Returns the file that is in `out` while a command writes there; `about` is all that its files depend on."""
    told = json.dumps(about, sort_keys=True).encode()
    return out / _BEGUN.format(hashlib.blake2b(told, digest_size=8).hexdigest())


@contextlib.contextmanager
def unfinished(begun: Path, plan: Sequence[Mapping[str, Path]]) -> Iterator[None]:
    """A context in which the planned files are written: stopped within it, the same command writes them again."""
    for path in _files(plan) if begun.exists() else ():
        remove_leftovers(path)
    write_text(begun, "")
    try:
        yield
    except BaseException:
        if not any(path.exists() for path in _files(plan)):
            begun.unlink()
        raise
    begun.unlink()


def _files(plan: Sequence[Mapping[str, Path]]) -> Iterator[Path]:
    return (path for paths in plan for path in paths.values())


def _short(stem: str) -> str:
    """The name of a scene, cut where the names of its files would be too long for a file system."""
    name = os.fsencode(stem)
    if len(name) <= _LONGEST_STEM:
        return stem
    return name[:_LONGEST_STEM].decode("utf-8", "ignore") + f"-{hashlib.blake2b(name, digest_size=4).hexdigest()}"


def write_files(paths: dict[str, Path], scene: AnyScene, text: str, found: Finding) -> None:
    """Writes the files of what was found for one text.

    Where the scene has no data, the overlay has no colour, and 0 in the GeoTIFF means no data. The best windows, with
    their cosines and, where the map is scaled by the background, their z, go into JSON and GeoJSON.
    """
    grey, missing, level = found.map, found.missing, found.level
    with whole(paths["map"]) as partial:
        Image.fromarray(grey).save(partial, "PNG")
    picture = picture_of(scene, grey, missing)
    with whole(paths["overlay"]) as partial:
        with_legend(picture, _ENDS[level is not None]).save(partial, "PNG")
    windows: list[dict[str, Any]] = [{"cosine": cosine, "window": list(map(int, box))} for box, cosine in found.best]
    about: dict[str, Any] = {"scene": str(scene.path), "text": text, "windows": windows}
    if level:
        windows[:] = [{**window, "z": round(z, 3)} for window, z in zip(windows, found.z, strict=False)]
        about["absent_z"] = round(level.absent, 3)
    write_text(paths["found"], json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    if scene.georeference:
        write_text(
            paths["geojson"], json.dumps(_features(scene.georeference, text, windows), ensure_ascii=False) + "\n"
        )
        with whole(paths["geotiff"]) as partial:
            write_geotiff(partial, grey, scene.georeference, found.factor, nodata=None if missing is None else 0)


def _features(place: Georeference, text: str, windows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Windows as GeoJSON, split at the date line; without a geometry where their place on Earth is not known."""
    from rasterio.transform import GCPTransformer
    from rasterio.warp import transform_geom

    features = []
    for window in windows:
        r0, r1, c0, c1 = window["window"]
        rows, columns = [r0, r1, r1, r0, r0], [c0, c0, c1, c1, c0]
        try:
            if place.points:
                xs, ys = GCPTransformer(place.points).xy(rows, columns, offset="ul")
            else:
                a, b, c, d, e, f = tuple(place.transform)[:6]
                xs, ys = zip(
                    *((a * x + b * y + c, d * x + e * y + f) for x, y in zip(columns, rows, strict=True)), strict=True
                )
            ring = [list(map(float, point)) for point in zip(xs, ys, strict=True)]
            shape = transform_geom(
                place.crs, "EPSG:4326", {"type": "Polygon", "coordinates": [ring]}, antimeridian_cutting=True
            )
        except Exception:  # GDAL's, of many kinds: no CRS, another planet, outside the domain of a projection
            shape = None
        features.append({"type": "Feature", "geometry": shape, "properties": {"text": text, **window}})
    return {"type": "FeatureCollection", "features": features}


def with_legend(picture: np.ndarray, ends: tuple[str, str] = _ENDS[False]) -> Image.Image:
    """Returns an overlay, uint8 [h, w, 3], over a bar of the map's colours between two words; a small one as it is."""
    height, width = picture.shape[:2]
    if width < _LEGEND:
        return Image.fromarray(picture)
    bar = np.tile(np.linspace(0, 255, width - 2 * _WORDS).astype(np.uint8), (_BAR, 1))
    strip = np.full((_BAR, width, 3), 255, np.uint8)
    strip[4:-4, _WORDS:-_WORDS] = overlay(np.full((*bar.shape, 3), 255, np.uint8), bar)[4:-4]
    image = Image.fromarray(np.concatenate([picture, strip]))
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(12)
    draw.text((4, height + _BAR // 2), ends[0], fill="black", font=font, anchor="lm")
    draw.text((width - 4, height + _BAR // 2), ends[1], fill="black", font=font, anchor="rm")
    return image


def picture_of(scene: AnyScene, grey: np.ndarray, missing: np.ndarray | None = None) -> np.ndarray:
    """Returns the scene under its map, uint8 [h, w, 3] with at most 2,048 pixels a side."""
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
