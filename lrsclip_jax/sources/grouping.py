"""Rows of one image, wherever they stand in a file, are brought together; their texts stay on disk.

A file is read twice. First a 64-bit hash of every image and the places of its rows go to a temporary file, and are
sorted there part by part. Then the rows come in the order of the file; where an image comes again further on, those
rows are read ahead at their places. Held in memory are 12 bytes for every image that comes again. Two images whose
hashes collide are told apart as their rows are read.
"""

from __future__ import annotations

import bisect
import itertools
import os
import struct
import tempfile
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from lrsclip_jax.sources.rows import Place, Row, RowFile

KeyOfRow = Callable[[dict[str, Any]], str | None]  # what rows of one image have in common; None: a row of its own

_BITS = 0xFFFF_FFFF_FFFF_FFFF
_PART = 1 << 12  # runs that are written, and about twice as many that are sorted, together
_MOST_PARTS = 64
_PLACE = struct.Struct("<3q")  # offset, number, rows
_COLUMNS = 4  # columns of the temporary file: hash, offset, number, rows


class _Run(NamedTuple):
    """Rows of one image that stand together."""

    place: Place
    rows: int


@dataclass(frozen=True)
class Repeats:
    """Where images come again.

    Attributes:
      hashes: of the images that have several runs, ascending.
      starts: for each of them and for the end, how many runs stand before its own in `file`.
      file: the runs but each image's first, int64 rows of offset, number and count, in the order of `hashes`.
    """

    hashes: array[int]
    starts: array[int]
    file: BinaryIO

    def of(self, hashed: int) -> list[_Run]:
        """Returns the further runs of an image, [] for one that stands in one run alone."""
        at = bisect.bisect_left(self.hashes, hashed)
        if at == len(self.hashes) or self.hashes[at] != hashed:
            return []
        start, end = self.starts[at], self.starts[at + 1]
        data = os.pread(self.file.fileno(), _PLACE.size * (end - start), _PLACE.size * start)
        return [_Run(Place(offset, number), rows) for offset, number, rows in _PLACE.iter_unpack(data)]


def hash_of(key: str) -> int:
    """Returns 64 bits that all but certainly differ for different images, and that nobody can choose."""
    return hash(key) & _BITS


def find_repeats(file: RowFile, key_of: KeyOfRow) -> Repeats:
    """Reads a file once and returns where images come again that have stood further up."""
    with tempfile.TemporaryFile(prefix="lrsclip_rows_") as runs:
        count = _write_runs(_runs(file, key_of), runs)
        return _sorted_repeats(runs, count)


def grouped(file: RowFile, key_of: KeyOfRow, repeats: Repeats) -> Iterator[list[Row]]:
    """Yields the rows of each image together, in the order of the first ones; and each row without a key alone."""
    if not repeats.hashes:
        yield from _neighbours(file, key_of)
        return
    with file.text.open() as again:
        yield from _gathered(file, key_of, repeats, again)


def _neighbours(file: RowFile, key_of: KeyOfRow) -> Iterator[list[Row]]:
    for key, rows in itertools.groupby(file.rows(), lambda row: _key(row, key_of)):
        if key is None:
            for row in rows:
                yield [row]
        else:
            yield list(rows)


def _gathered(file: RowFile, key_of: KeyOfRow, repeats: Repeats, opened: BinaryIO) -> Iterator[list[Row]]:
    collided: dict[int, set[str]] = {}  # hashes of several images, with those that were given already
    for key, rows in itertools.groupby(file.rows(), lambda row: _key(row, key_of)):
        if key is None:
            for row in rows:
                yield [row]
            continue
        group = list(rows)
        hashed = hash_of(key)
        later = repeats.of(hashed)
        if later and group[0].place >= later[0].place:
            if hashed not in collided or key in collided[hashed]:
                continue
            later = [run for run in later if run.place > group[0].place]
        for run in later:
            again = list(itertools.islice(file.rows(run.place, opened), run.rows))
            if again and _key(again[0], key_of) == key:
                group += again
            else:
                collided.setdefault(hashed, set())
        if hashed in collided:
            collided[hashed].add(key)
        yield group


def _key(row: Row, key_of: KeyOfRow) -> str | None:
    return None if isinstance(row.values, str) else key_of(row.values)


def _runs(file: RowFile, key_of: KeyOfRow) -> Iterator[tuple[int, int, int, int]]:
    for key, rows in itertools.groupby(file.rows(), lambda row: _key(row, key_of)):
        if key is not None:
            offset, number = next(rows).place
            hashed = hash_of(key)
            yield hashed - (1 << 64) if hashed >> 63 else hashed, offset, number, 1 + sum(1 for _ in rows)


def _write_runs(runs: Iterator[tuple[int, int, int, int]], file: BinaryIO) -> int:
    count = 0
    while part := list(itertools.islice(runs, _PART)):
        file.write(np.array(part, "<i8").tobytes())
        count += len(part)
    file.flush()
    return count


def _sorted_repeats(runs: BinaryIO, count: int) -> Repeats:
    """Sorts the runs by hash, those that begin with the same bits at a time."""
    bits = min(count // _PART, _MOST_PARTS - 1).bit_length()
    hashes, starts = array("Q"), array("I", [0])
    later = tempfile.TemporaryFile(prefix="lrsclip_repeats_")
    for part in range(1 << bits):
        found = _part_of_runs(runs, part, bits)
        hashed = found[:, 0].view("<u8")
        order = np.argsort(hashed, kind="stable")
        found, hashed = found[order], hashed[order]
        same = np.zeros(len(found), bool)
        same[1:] = hashed[1:] == hashed[:-1]
        later.write(found[same, 1:].tobytes())
        values, sizes = np.unique(hashed[same], return_counts=True)
        hashes.frombytes(values.tobytes())
        starts.frombytes((starts[-1] + np.cumsum(sizes)).astype(np.uint32).tobytes())
    later.flush()
    return Repeats(hashes, starts, later)


def _part_of_runs(runs: BinaryIO, part: int, bits: int) -> np.ndarray:
    """The runs, int64 [n, 4] in the order of the file, whose hashes begin with the `bits` of `part`."""
    found = [np.zeros((0, _COLUMNS), "<i8")]
    runs.seek(0)
    while data := runs.read(8 * _COLUMNS * _PART):
        rows = np.frombuffer(data, "<i8").reshape(-1, _COLUMNS)
        found.append(rows[rows[:, 0].view("<u8") >> np.uint64(64 - bits) == part] if bits else rows)
    return np.concatenate(found)
