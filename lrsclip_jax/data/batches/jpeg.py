"""JPEG at close to the rate of libjpeg-turbo: reduced while it is decoded, cropped, and resized by OpenCV."""

from __future__ import annotations

import math
import threading

import cv2
import numpy as np
import simplejpeg

from lrsclip_jax.data.geotiff import pixel_limit

# Every image has a thread of its own: threads within one would contend for the same cores.
cv2.setNumThreads(1)
# Where a thread decodes all images but the largest: fresh memory for each costs a tenth of the time.
_scratch, _MOST = threading.local(), 1 << 24


def jpeg_sides(data: bytes) -> tuple[int, int] | None:
    """Returns the width and height of a JPEG that `read_jpeg` may try, None for one that is left to Pillow."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    # A larger one is refused by its header, before memory is taken for its pixels.
    return (width, height) if colours in ("YCbCr", "RGB", "Gray") and width * height <= pixel_limit() else None


def read_jpeg(data: bytes, sides: tuple[int, int], box: tuple[float, float, float, float], out: np.ndarray) -> bool:
    """Reads a part of a JPEG into `out`, uint8 RGB [H, W, 3]; False where Pillow has to.

    That is where libjpeg-turbo has anything to complain of, and where the box rounds to no pixel.

    `box` is (left, top, right, bottom) in pixels of the image, whose width and height are `sides`. An image much larger
    than needed is reduced by libjpeg-turbo (in its discrete cosine transform, to n/8), and the box is rounded to pixels
    of the reduced image. As with Pillow, grey becomes RGB, and the EXIF orientation is ignored. The GIL is released.
    """
    (width, height), (left, top, right, bottom) = sides, box
    needed = min(1.0, max(out.shape[1] / (right - left), out.shape[0] / (bottom - top)))
    try:
        # The least n/8 that leaves the box its size, but not 6/8 or 7/8: they are slower than a resize, and worse.
        pixels = simplejpeg.decode_jpeg(
            data,
            min_width=math.ceil(width * needed),
            min_height=math.ceil(height * needed),
            min_factor=1.5,
            buffer=_buffer(3 * width * height),
        )
    except ValueError:
        return False
    kept = min(8 * pixels.shape[0] // height, 8 * pixels.shape[1] // width) / 8  # the sides themselves are rounded up
    crop = pixels[round(top * kept) : round(bottom * kept), round(left * kept) : round(right * kept)]
    if not crop.size:  # less than a pixel of a long thin image
        return False
    if crop.shape == out.shape:
        out[:] = crop
    else:
        by = _interpolation(max(crop.shape[0] / out.shape[0], crop.shape[1] / out.shape[1]), reduced=kept < 1)
        cv2.resize(crop, out.shape[1::-1], dst=out, interpolation=by)
    return True


def _buffer(size: int) -> bytearray | None:
    if size > _MOST:
        return None
    if len(getattr(_scratch, "buffer", b"")) < size:
        _scratch.buffer = bytearray(size)
    return _scratch.buffer


def _interpolation(ratio: float, reduced: bool) -> int:
    """The one whose embeddings are nearest to those of Pillow's antialiased bicubic, by benchmarks/README.md."""
    if ratio > 1.25:
        return cv2.INTER_AREA
    return cv2.INTER_CUBIC if ratio <= 1 or reduced else cv2.INTER_LINEAR
