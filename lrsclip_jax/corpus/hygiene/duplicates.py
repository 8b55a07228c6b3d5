"""De-duplication: of images that are the same, or nearly, the first stays."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lrsclip_jax.corpus.hygiene.near import Originals
from lrsclip_jax.corpus.hygiene.phash import hash_file, phash, pixel_hash
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.data.parallel import in_threads

DISTANCE = 4
_BLOCK = 1024  # records that are held while they are compared


@dataclass(frozen=True)
class Duplicate(SetAside):
    """A record whose image is that of an earlier one: the id of the one that stays, and the bits between the hashes."""

    kept: str
    distance: int


def without_duplicates(
    records: Iterable[CorpusRecord], distance: int = DISTANCE
) -> Iterator[CorpusRecord | Duplicate | SetAside]:
    """Sets aside every image whose p-hash is within `distance` bits of an earlier one that stays.

    Up to 4 bits is what RemoteCLIP's rule allows at most (fewer than two of the 16 hexadecimal digits differ), at any
    place here. The first stays, with any texts: the order of the sources is the order of preference. Records that are
    near a set-aside one only stay, so that no chain of slightly different deserts becomes one image.

    Holds the id and some 80 bytes of index for every record that stays, and 1,024 records. Unreadable images are set
    aside, too. InputError for a distance outside 0 to 64.
    """
    return _first_of_each(records, phash, distance)


def without_copies(records: Iterable[CorpusRecord]) -> Iterator[CorpusRecord | Duplicate | SetAside]:
    """Sets aside every image with exactly the pixels of an earlier one, in any file format.

    As `without_duplicates`, but by a 64-bit digest of the decoded pixels: metadata and lossless re-coding don't count.
    """
    return _first_of_each(records, pixel_hash, 0)


def _first_of_each(
    records: Iterable[CorpusRecord], of: Callable[[Image.Image], int], distance: int
) -> Iterator[CorpusRecord | Duplicate | SetAside]:
    originals = Originals(distance)
    ids: dict[int, str] = {}
    hashed = in_threads(lambda record: (record, hash_file(record.file, of)), records)
    count = 0
    while block := list(itertools.islice(hashed, _BLOCK)):
        readable = [(record, found) for record, found in block if not isinstance(found, str)]
        rows, distances = originals.add(np.asarray([found for _, found in readable], np.uint64))
        near = zip(rows.tolist(), distances.tolist(), strict=True)
        for record, found in block:
            if isinstance(found, str):
                yield SetAside(record.id, "duplicates", found)
                continue
            row, apart = next(near)
            if row == count:
                ids[row] = record.id
                yield record
            else:
                reason = f"image as of {ids[row]} (hashes {apart} bits apart)"
                yield Duplicate(record.id, "duplicates", reason, ids[row], apart)
            count += 1
