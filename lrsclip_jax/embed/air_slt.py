"""Semantic localisation's data as AIR-SLT lays it out: scenes, and anno.json with a caption and polygons a query."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from eval import selo
from lrsclip_jax.data.crops import crop_window
from lrsclip_jax.data.images import SUFFIXES, read_image
from lrsclip_jax.data.rasters import size_of
from lrsclip_jax.embed.material import Material, Row
from lrsclip_jax.errors import InputError

ANNOTATIONS = "anno.json"


def open_scenes(folder: str, steps: Sequence[int] = (256, 512, 768), reference: bool = False) -> Material:
    """Opens a folder that holds anno.json and the scenes that it names, at any depth.

    anno.json is a list of {"jpg_name": "1.jpg", "caption": …, "points": [[[x, y], …], …]}, x to the right and y down
    (SemanticLocalizationMetrics, test_data). The images are the windows of every scene with a query.

    Args:
      folder: what to open.
      steps: sides of the windows in pixels.
      reference: crop as the reference code does, see `localise.crops.crop_window`.

    Raises:
      InputError: there is no anno.json, it is not as described, a scene is missing or smaller than every window.
    """
    root = Path(folder).expanduser().absolute()
    found = sorted(root.rglob(ANNOTATIONS))
    if len(found) != 1:
        raise InputError(f"{folder}: {len(found) or 'no'} {ANNOTATIONS} in it, one is expected")
    texts = [_query(row, f"{found[0]}, query {number}") for number, row in enumerate(_list(found[0]), 1)]
    files = {path.name: path for path in sorted(root.rglob("*")) if path.suffix.lower() in SUFFIXES}
    scenes: dict[str, Row] = {}
    images: list[Row] = []
    for text in texts:
        name = text["scene"]
        if name in scenes:
            continue
        if name not in files:
            raise InputError(f"{found[0]}: the scene {name} is not below {folder}")
        width, height = size_of(files[name])
        scenes[name] = {"height": height, "width": width, "file": str(files[name])}
        try:
            boxes = selo.windows(height, width, tuple(steps)).tolist()
        except InputError as error:
            raise InputError(f"{files[name]}: {error}") from None
        images += [{"id": f"{name}/{'_'.join(map(str, box))}", "scene": name, "window": box} for box in boxes]

    newest: dict[str, np.ndarray] = {}
    lock = threading.Lock()

    def scene(name: str) -> np.ndarray:
        with lock:  # windows come scene by scene: one is read once and kept until the next but one
            if name not in newest:
                pixels = np.asarray(read_image(scenes[name]["file"]))
                while len(newest) > 1:
                    newest.pop(next(iter(newest)))
                newest[name] = pixels
            return newest[name]

    def read(row: int) -> Image.Image:
        image = images[row]
        return Image.fromarray(crop_window(scene(image["scene"]), image["window"], reference))

    return Material(root.name, None, images, texts, read, scenes)


def _list(path: Path) -> list:
    try:
        rows = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from None
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path}: a list of queries is expected")
    return rows


def _query(row: object, where: str) -> Row:
    try:
        scene, text = str(row["jpg_name"]), str(row["caption"]).strip()
        points = [[[float(x), float(y)] for x, y in polygon] for polygon in row["points"]]
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{where}: jpg_name, caption and points [[[x, y], …], …] are expected") from None
    if not points or min(map(len, points)) < 3:
        raise InputError(f"{where}: a polygon has fewer than three points")
    return {"text": text, "kind": "query", "scene": scene, "points": points}
