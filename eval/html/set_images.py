"""Pictures for the report: those of a set's images, and maps of semantic localisation laid over their scenes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from eval.embeddings import EmbeddingSet
from eval.errors import InputError
from eval.file_names import named

LONGEST = 720  # pixels of a scene in the report
# Naming them keeps Pillow's rarer decoders (PostScript runs a program) away from the files that a set names.
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")


def picture_of(embedding_set: EmbeddingSet, image: int) -> np.ndarray:
    """Returns an image's picture, uint8 [H, W, 3]; InputError where it is not at hand or can't be read."""
    path = embedding_set.picture(image)
    if path is None:
        raise InputError(f"the picture of image {embedding_set.image_rows[image]['id']!r} is not at hand")
    return read_picture(path)


def scene_of(embedding_set: EmbeddingSet, name: str) -> np.ndarray | None:
    """Returns a scene, uint8 [H, W, 3], or None where the set names no picture of it or it is not there."""
    scene = (embedding_set.meta.get("scenes") or {}).get(name, {})
    path = embedding_set.path / named(scene["file"]) if scene.get("file") else None
    if path is None or not os.path.isfile(path):  # Path.is_file raises for a name that is too long
        return None
    picture = read_picture(path)
    if picture.shape[:2] != (scene["height"], scene["width"]):
        told = f"{scene['height']} × {scene['width']}"
        raise InputError(f"{path} has {picture.shape[0]} × {picture.shape[1]} pixels, meta.json says {told}")
    return picture


def read_picture(path: Path) -> np.ndarray:
    """Returns a picture file as uint8 [H, W, 3].

    Raises:
      InputError: it is no regular file, not of the formats that are named here, damaged, or has more than 8 bits.
    """
    try:
        if not path.is_file():
            raise InputError(f"{path}: not a regular file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # scenes are large
            with Image.open(path, formats=_FORMATS) as picture:
                deep = picture.mode.startswith(("I", "F")) or ";16" in str(picture.tile)
                if deep:
                    raise InputError(f"{path}: more than 8 bits: embed with --pictures, which keeps what can be shown")
                return np.asarray(picture.convert("RGB"))
    except InputError:
        raise
    except Exception as error:  # decoders of damaged files raise anything, from SyntaxError to struct.error
        raise InputError(f"{path}: no picture that can be shown ({' '.join(str(error).split())})") from error


def marked(overlaid: np.ndarray, polygons: Sequence[Sequence], centres: Sequence[Sequence[float]]) -> np.ndarray:
    """Returns a scene at the size of the report, with the outlines of true regions and crosses at attention centres.

    Args:
      overlaid: the scene with its map, uint8 [H, W, 3].
      polygons: lists of [x, y], in pixels.
      centres: of attention, (x, y) each.
    """
    height, width = overlaid.shape[:2]
    scale = min(1.0, LONGEST / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = np.ascontiguousarray(cv2.resize(overlaid, size, interpolation=cv2.INTER_AREA))
    outlines = [np.rint(np.asarray(polygon, np.float64) * scale).astype(np.int32) for polygon in polygons]
    places = [(round(x * scale), round(y * scale)) for x, y in centres]
    for colour, thickness in (((0, 0, 0), 4), ((255, 255, 255), 2)):
        cv2.polylines(picture, outlines, True, colour, thickness, cv2.LINE_AA)
        for place in places:
            cv2.drawMarker(picture, place, colour, cv2.MARKER_TILTED_CROSS, 16, thickness, cv2.LINE_AA)
    return picture
