"""Images for training: encoded bytes in, the tower's pixels out, exactly as evaluation makes them or faster.

"exact" is Pillow, as in `lrsclip_jax.data.images`; "fast" reads JPEG by `batches.jpeg`, all else as "exact".
"""

from __future__ import annotations

import functools

import numpy as np

from lrsclip_jax.data import preprocessing as of_towers
from lrsclip_jax.data.band_image import seen
from lrsclip_jax.data.preprocessing import Preprocessing, filter_of, preprocess
from lrsclip_jax.errors import InputError

DECODERS = ("exact", "fast")
Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels of the encoded image


def check_decoder(decoder: str) -> None:
    """Raises InputError where `data.decoder` names no decoder."""
    if decoder not in DECODERS:
        raise InputError(f"data.decoder is '{decoder}': {' and '.join(map(repr, DECODERS))} are known")


def training_pixels(
    data: bytes,
    preprocessing: Preprocessing,
    crop_scale: tuple[float, float] | None,
    rng: np.random.Generator,
    decoder: str = "exact",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Returns an encoded image as uint8 [S, S, 3]: as by `preprocess`, or with `crop_scale` a random crop of that area.

    Of bands that `preprocessing` names it is float32 [S, S, bands], of images of any shape [rows·patch, columns·patch,
    C]. It is written to `out`, where that is given.
    Both decoders choose the same crop, which "fast" rounds to whole pixels, so they differ in the resize alone: an
    image prepared at the size of the tower is the same to both. Files of which libjpeg-turbo complains (other formats,
    CMYK, 12 bits, torn ones) are read as by "exact". Raises InputError where `band_image.seen` does.
    """

    def room(width: float, height: float) -> np.ndarray:
        shape = (*preprocessing.sides(width, height), preprocessing.channels)
        return np.empty(shape, preprocessing.dtype) if out is None else out

    box = None
    if decoder == "fast":
        from lrsclip_jax.data.batches.jpeg import jpeg_sides, read_jpeg  # "exact" needs neither OpenCV nor simplejpeg

        if sides := jpeg_sides(data):
            box = random_box(*sides, crop_scale, rng) if crop_scale else central_box(*sides, preprocessing)
            left, top, right, bottom = box
            if read_jpeg(data, sides, box, found := room(right - left, bottom - top)):
                return found
    image = seen(data, preprocessing)
    if crop_scale:
        left, top, right, bottom = box = box or random_box(*image.size, crop_scale, rng)
        found = room(right - left, bottom - top)
        found[:] = np.asarray(image.resize(found.shape[1::-1], filter_of(preprocessing), box=box))
    else:
        found = room(*image.size)
        found[:] = preprocess(image, preprocessing)
    return found


def random_box(width: int, height: int, scale: tuple[float, float], rng: np.random.Generator) -> Box:
    """Returns a random crop with `scale` of the area and an aspect of 3:4 to 4:3.

    The rule of torchvision's RandomResizedCrop: ten tries, then the largest central crop within the aspect range.
    """
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = round(float(np.sqrt(area * aspect))), round(float(np.sqrt(area / aspect)))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
            break
    else:
        w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
        left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


@functools.lru_cache(maxsize=256)  # the images of a set have few sizes
def central_box(width: int, height: int, preprocessing: Preprocessing) -> Box:
    """Returns what `preprocess` keeps: the square that is central once the shorter side has its size, or all."""
    if preprocessing.resize == "squash" or preprocessing.patch:
        share = preprocessing.size / (preprocessing.size + preprocessing.margin)
        return 0.0, 0.0, share * width, share * height
    return of_towers.central_box(width, height, preprocessing.size, preprocessing.crop)
