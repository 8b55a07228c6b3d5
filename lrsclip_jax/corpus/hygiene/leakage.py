"""Leakage: training images that are near an image of an evaluation set are found, removed and reported."""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from lrsclip_jax.corpus.hygiene.near import Index
from lrsclip_jax.corpus.hygiene.phash import hash_file, hash_files, phash, phash_windows
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.data.parallel import in_threads
from lrsclip_jax.errors import InputError

T = TypeVar("T")
DISTANCE = 8
_NONE = 65  # bits: farther than any two hashes
_BLOCK = 1024  # records that are held while they are compared


@dataclass(frozen=True, eq=False)
class References:
    """Hashes of the images of evaluation sets.

    Attributes:
      hashes: of each image and 24 windows of it, uint64 [R, 25] (`phash_windows`).
      images: their paths, and `sets`: the evaluation set of each, [R].
    """

    hashes: np.ndarray = field(repr=False)
    images: Sequence[str] = field(repr=False)
    sets: Sequence[str] = field(repr=False)


@dataclass(frozen=True)
class Leak(SetAside):
    """A record whose image is near one of an evaluation set.

    Attributes:
      set: the evaluation set.
      image: path of its image.
      distance: bits between the hashes.
      record_image: path of the record's own image.
    """

    set: str
    image: str
    distance: int
    record_image: str


def hash_references(sets: Mapping[str, Iterable[str | os.PathLike]]) -> References:
    """Returns the hashes of evaluation sets, given as name → paths of images.

    InputError names an image that can't be read: a test image that is not looked for would be a leak unseen.
    """
    images = [(name, os.fspath(path)) for name, paths in sets.items() for path in paths]
    if not images:
        raise InputError("no image of an evaluation set to look for: name at least one")
    hashes, unread = hash_files([path for _, path in images], phash_windows)
    if unread:
        first = min(unread)
        raise InputError(f"{len(unread)} of {len(images)} images of {images[first][0]} can't be read: {unread[first]}")
    return References(hashes, [path for _, path in images], [name for name, _ in images])


def leaks(hashes: np.ndarray, references: References, distance: int = DISTANCE) -> tuple[np.ndarray, np.ndarray]:
    """Returns the nearest evaluation image of each train hash, and how far it is, int64, uint8 [N].

    `hashes` is uint64 [N] of whole train images; where no window of an evaluation image is within `distance` bits, the
    row is -1 and the distance 65. Finds train images that are evaluation images compressed, resized, shifted by a
    pixel, brighter, darker, or cropped by up to 5 % at each border (rates: `benchmarks/leakage.py`); not those
    that show more ground than the evaluation image does.
    """
    return _nearest(_index(references, distance), references, hashes)


def nearest_training(
    references: np.ndarray, blocks: Iterable[tuple[Sequence[T], np.ndarray]], distance: int = DISTANCE
) -> list[tuple[T, int] | None]:
    """Returns for each evaluation image the nearest training image and the bits between them, None where none is near.

    Near are those pairs that `leaks` finds; of images that are equally near to a window the first is taken. Holds a
    block, and what `Index` holds of the references.

    Args:
      references: hashes of the evaluation images and their windows, uint64 [R, 25] (`phash_windows`).
      blocks: names of training images, and the hashes of these whole images, uint64 [N].
      distance: at most, in bits.
    """
    index = Index(references.ravel(), distance)
    nearest = np.full(len(index.hashes), _NONE, np.uint8)
    names: dict[int, T] = {}
    for block, hashes in blocks:
        distinct, first = np.unique(hashes, return_index=True)
        for query, entry, apart in index.pairs(distinct):
            order = np.lexsort((first[query], apart, entry))
            entry, at = np.unique(entry[order], return_index=True)
            query, apart = query[order][at], apart[order][at]
            closer = apart < nearest[entry]
            nearest[entry[closer]] = apart[closer]
            names.update((one, block[row]) for one, row in zip(entry[closer], first[query[closer]], strict=True))
    entries = np.searchsorted(index.hashes, references)
    best = np.take_along_axis(entries, nearest[entries].argmin(axis=1)[:, None], axis=1)[:, 0]
    return [(names[entry], int(nearest[entry])) if entry in names else None for entry in best.tolist()]


def without_leaks(
    records: Iterable[CorpusRecord], references: References, distance: int = DISTANCE
) -> Iterator[CorpusRecord | Leak | SetAside]:
    """Sets aside every record whose image is near an evaluation image, as `leaks` says; unreadable ones, too.

    Holds the references (25 hashes an image and what `Index` holds of them) and 1,024 records.
    """
    index = _index(references, distance)
    block: list[tuple[CorpusRecord, int | str]] = []
    for one in in_threads(lambda record: (record, hash_file(record.file, phash)), records):
        block.append(one)
        if len(block) == _BLOCK:
            yield from _decided(block, index, references)
            block = []
    yield from _decided(block, index, references)


def report(found: Iterable[Leak], images: Mapping[str, int], examples: int = 10) -> dict[str, Any]:
    """Returns for each evaluation set its images, how many of them leaked, how many records that concerns, and which.

    `{set: {"images", "images_leaked", "records_removed", "examples": [{"record", "record_image", "image", "distance"},
    …]}}`, the examples with the nearest first, each of another evaluation image.

    Args:
      found: leaks; a record that is near images of several sets counts for the nearest.
      images: how many each evaluation set has.
      examples: how many of each set, at most.
    """
    of_set: dict[str, list[Leak]] = defaultdict(list)
    for leak in found:
        of_set[leak.set].append(leak)
    return {name: _of_set(of_set[name], count, examples) for name, count in images.items()}


def _of_set(found: Sequence[Leak], images: int, examples: int) -> dict[str, Any]:
    nearest: dict[str, Leak] = {}
    for leak in sorted(found, key=lambda leak: leak.distance):
        nearest.setdefault(leak.image, leak)
    return {
        "images": images,
        "images_leaked": len(nearest),
        "records_removed": len(found),
        "examples": [
            {"record": leak.id, "record_image": leak.record_image, "image": leak.image, "distance": leak.distance}
            for leak in itertools.islice(nearest.values(), examples)
        ],
    }


def _decided(
    block: Sequence[tuple[CorpusRecord, int | str]], index: Index, references: References
) -> Iterator[CorpusRecord | Leak | SetAside]:
    hashes = [found for _, found in block if not isinstance(found, str)]
    rows, distances = _nearest(index, references, np.asarray(hashes, np.uint64))
    near = zip(rows.tolist(), distances.tolist(), strict=True)
    for record, found in block:
        if isinstance(found, str):
            yield SetAside(record.id, "leakage", found)
            continue
        row, apart = next(near)
        if row < 0:
            yield record
            continue
        name, image = references.sets[row], references.images[row]
        reason = f"near {image} of {name} (hashes {apart} bits apart)"
        yield Leak(record.id, "leakage", reason, name, image, apart, record.image)


def _index(references: References, distance: int) -> Index:
    return Index(references.hashes.ravel(), distance)


def _nearest(index: Index, references: References, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, distances = index.nearest(hashes)
    return np.where(rows < 0, -1, rows // references.hashes.shape[1]), distances
