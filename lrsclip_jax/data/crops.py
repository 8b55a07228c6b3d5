"""A window of a scene as the image tower is given it: cut out as it is, or prepared as the reference code does."""

from __future__ import annotations

import io
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from lrsclip_jax.errors import InputError

REFERENCE_SIDE, REFERENCE_QUALITY = 256, 95  # of the files that the reference code writes of its windows


def crop_window(image: np.ndarray, window: Sequence[int], reference: bool) -> np.ndarray:
    """Returns one window of an RGB image, uint8 [h, w, 3].

    Directly, the pixels go to the tower's own antialiased resize. The reference code (predict/generate_selo.py of
    SemanticLocalizationMetrics) first makes every window 256×256 with OpenCV's cubic, which does not antialias, and
    saves it as a JPEG of quality 95; `reference` gives what its model then reads, so that scores can be compared.

    Args:
      image: uint8 [H, W, 3].
      window: r0, r1, c0, c1 in pixels, ends exclusive.
      reference: cut as the reference code does.

    Raises:
      InputError: an image of another kind, or a window that is empty or not inside it.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"windows are cut from a uint8 [H, W, 3] image, not {image.dtype} {list(image.shape)}")
    r0, r1, c0, c1 = (int(edge) for edge in window)
    height, width = image.shape[:2]
    if not (0 <= r0 < r1 <= height and 0 <= c0 < c1 <= width):
        raise InputError(f"window rows {r0}:{r1}, columns {c0}:{c1} does not lie in an image of {height}×{width}")
    crop = image[r0:r1, c0:c1]
    return as_reference(crop) if reference else crop


def as_reference(crop: np.ndarray) -> np.ndarray:
    """Returns a crop, uint8 [h, w, 3] RGB, as the reference code's model reads it: uint8 [256, 256, 3]."""
    small = cv2.resize(crop, (REFERENCE_SIDE, REFERENCE_SIDE), interpolation=cv2.INTER_CUBIC)
    _, file = cv2.imencode(
        ".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, REFERENCE_QUALITY]
    )
    return np.asarray(Image.open(io.BytesIO(file.tobytes()), formats=("JPEG",)))
