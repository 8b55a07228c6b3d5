"""Hashes of the images of a source, block by block; a finished block is kept on disk and never hashed again."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from eval.reading import read_arrays
from eval.whole import whole
from lrsclip_jax.corpus.hygiene.phash import WINDOWS, phash, phash_windows
from lrsclip_jax.data.images import read_image
from lrsclip_jax.data.parallel import in_threads
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources import Drawing, Entry, Item
from lrsclip_jax.sources.prepared import read_item

BLOCK = 4096  # images: what a kill may cost


class Hashing(NamedTuple):
    """A kind of hashes: `name` tells it from others on disk; `of` gives an image `width` of them."""

    name: str
    of: Callable[[Image.Image], int | np.ndarray]
    width: int


WHOLE = Hashing("whole 1", phash, 1)
WITH_WINDOWS = Hashing("windows 1", phash_windows, len(WINDOWS))


class HashedBlock(NamedTuple):
    """Images of a source that could be read, their hashes, uint64 [N, width], and why others could not."""

    items: list[Item]
    hashes: np.ndarray
    unread: list[str]


def hashed(items: Iterable[Item], hashing: Hashing, kept: Path, bar: tqdm) -> Iterator[HashedBlock]:
    """Yields the images of a source with their hashes, in order, by a thread a core; holds one block.

    Args:
      items: none is still to be drawn.
      hashing: which hashes.
      kept: a folder that is there, for the hashes: a file for each block. A block is known by the ids and places of its
        images, the sizes and times of their files, and the bytes of records. Images that could not be read are tried
        again.
      bar: counts images.
    """
    rest = iter(items)
    while block := list(itertools.islice(rest, BLOCK)):
        file = kept / f"{_digest(block, hashing)}.npz"
        hashes, read = _load(file, len(block), hashing.width)
        missing = np.flatnonzero(~read).tolist()
        bar.update(len(block) - len(missing))
        unread = []
        for row, found in zip(missing, in_threads(lambda row: _hash(block[row], hashing), missing), strict=True):
            if isinstance(found, str):
                unread.append(found)
            else:
                hashes[row], read[row] = found, True
            bar.update()
        if len(unread) < len(missing):
            with whole(file, durable=False) as partial, partial.open("wb") as stream:
                np.savez(stream, hashes=hashes, read=read)
        yield HashedBlock([item for item, there in zip(block, read, strict=True) if there], hashes[read], unread)


def image_of(item: Item) -> Image.Image:
    """Returns an item's image as RGB; InputError where it can't be read."""
    return read_item(item, lambda image, name: read_image(image, name=name))


def _hash(item: Item, hashing: Hashing) -> int | np.ndarray | str:
    try:
        return hashing.of(image_of(item))
    except InputError as error:
        return str(error)


def _load(file: Path, count: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of a block and which of them are there, uint64 [N, width], bool [N]; none of a damaged file."""
    try:
        kept = read_arrays(file, {"hashes": (np.uint64, 2), "read": (bool, 1)})
        if kept["hashes"].shape == (count, width) and len(kept["read"]) == count:
            return kept["hashes"], kept["read"]
    except InputError:
        pass
    return np.zeros((count, width), np.uint64), np.zeros(count, bool)


def _digest(block: Iterable[Item], hashing: Hashing) -> str:
    of = hashlib.blake2b(hashing.name.encode(), digest_size=16)
    for item in block:
        of.update(repr((item.id, str(item.image), _stamp(item.image))).encode("utf-8", "surrogatepass"))
    return of.hexdigest()


def _stamp(image: Any) -> Any:
    """What changes with the content of an image: the size and time of its file, or a digest of its record."""
    assert not isinstance(image, Drawing)
    try:
        if isinstance(image, Entry):
            return hashlib.blake2b(image.read_bytes(), digest_size=16).hexdigest()
        told = os.stat(image if isinstance(image, Path) else image.file)
    except (OSError, InputError):
        return None
    return told.st_size, told.st_mtime_ns
