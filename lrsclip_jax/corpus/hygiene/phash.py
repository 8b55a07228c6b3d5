"""Perceptual hashes: 64 bits that stay when an image is compressed, resized or brightened; bit for bit ImageHash's."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import scipy.fft
from PIL import Image
from tqdm import tqdm

from lrsclip_jax.data.images import read_image
from lrsclip_jax.data.parallel import in_threads
from lrsclip_jax.errors import InputError

_SIDE, _LOW = 32, 8
# Of a side, from where to where: all of it, 5 % off at either end or at both, and the middle. Of any crop that takes
# up to 5 % off at each end, the ends of one of them are 2.5 % away at most; the hash bears as much.
_SPANS = ((0.0, 1.0), (0.05, 1.0), (0.0, 0.95), (0.05, 0.95), (0.025, 0.975))
WINDOWS = tuple((x0, y0, x1, y1) for y0, y1 in _SPANS for x0, x1 in _SPANS)


def phash(image: Image.Image, box: tuple[float, float, float, float] | None = None) -> int:
    """Returns the 64-bit perceptual hash of an image, or of a box x0, y0, x1, y1 of it in pixels.

    A bit for each of the 8×8 lowest frequencies of the cosine transform (type II) of the grey image at 32×32 pixels,
    Lanczos, row by row from the highest bit on: whether it is above their median. Equal to ImageHash's
    `int(str(imagehash.phash(image)), 16)`, with which RemoteCLIP's sets were compared.
    """
    small = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS, box)
    low = scipy.fft.dct(scipy.fft.dct(np.asarray(small), axis=0), axis=1)[:_LOW, :_LOW]
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


def phash_windows(image: Image.Image) -> np.ndarray:
    """Returns the hashes of the whole image and of 24 windows of it that lack up to 5 % at each border, uint64 [25].

    A crop moves all frequencies: 5 % off at every border flips 14 of the 64 bits (median over AID), and other images
    are as near as that. One of the windows is near to the crop.
    """
    grey, (width, height) = image.convert("L"), image.size
    boxes = [(x0 * width, y0 * height, x1 * width, y1 * height) for x0, y0, x1, y1 in WINDOWS]
    return np.asarray([phash(grey, box) for box in boxes], np.uint64)


def pixel_hash(image: Image.Image) -> int:
    """Returns 64 bits of the BLAKE2b digest of size and RGB values: equal for equal pixels in any file format."""
    digest = hashlib.blake2b(np.asarray(image.size, "<u4").tobytes(), digest_size=8)
    digest.update(image.convert("RGB").tobytes())
    return int.from_bytes(digest.digest(), "big")


def hash_file(path: str | os.PathLike, of: Callable[[Image.Image], int | np.ndarray] = phash):
    """Returns what `of` says of an image file, or the reason (str, one line) why it can't be read."""
    try:
        return of(read_image(path))
    except InputError as error:
        return str(error)


def hash_files(
    paths: Sequence[str | os.PathLike], of: Callable[[Image.Image], int | np.ndarray] = phash
) -> tuple[np.ndarray, Mapping[int, str]]:
    """Returns the hashes of image files, by a thread a core: uint64 [N], or [N, 25] of `phash_windows`.

    The second value names the rows that can't be read, with the reason; their hashes are 0. Holds the hashes alone.
    """
    hashes = np.zeros(len(paths), np.uint64)
    unread: dict[int, str] = {}
    shown: Iterable = tqdm(paths, unit=" images", desc="hashing", disable=None, leave=False)
    for row, found in enumerate(in_threads(lambda path: hash_file(path, of), shown)):
        if isinstance(found, str):
            unread[row] = found
            continue
        if hashes.ndim == np.ndim(found):  # several hashes an image
            hashes = np.zeros((len(paths), len(found)), np.uint64)
        hashes[row] = found
    return hashes, unread
