"""Hashes within a Hamming distance of each other, exactly, without comparing all with all.

Multi-index hashing (Norouzi, Punjani, Fleet, CVPR 2012): of two hashes that differ in at most `distance` bits, some of
m bands of bits differs in at most distance // m. So the hashes are sorted by each band, those whose band is that near
are looked up, and only they are compared.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lrsclip_jax.errors import InputError

_BITS = 64
_CANDIDATES = 1 << 20  # compared at a time: what bounds the memory
_NONE = _BITS + 1
_LOOK_UP = 3  # what finding a bucket costs, in comparisons


class Index:
    """Hashes to be looked up by nearness. Equal ones are one entry, so that many copies cost no more than one.

    Attributes:
      hashes: the distinct hashes in ascending order, uint64 [D].
      rows: the first row in which each was given, int64 [D].

    Holds 8 bytes a distinct hash, as much for the row it was in first, and as much for each of 3 to 16 bands.
    """

    def __init__(self, hashes: np.ndarray, distance: int):
        self.distance = checked_distance(distance)
        self.hashes, self.rows = np.unique(np.asarray(hashes, np.uint64), return_index=True)
        number = _bands_for(len(self.hashes), distance)
        edges = [_BITS * band // number for band in range(number + 1)]
        self._radius = distance // number
        self._shifts = [np.uint64(low) for low in edges[:-1]]
        self._widths = [high - low for low, high in itertools.pairwise(edges)]
        self._orders, self._starts = [], []
        for band, width in enumerate(self._widths):
            values = self._band(self.hashes, band)
            self._orders.append(np.argsort(values, kind="stable"))
            self._starts.append(np.concatenate([[0], np.cumsum(np.bincount(values, minlength=2**width))]))

    def pairs(self, queries: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yields query rows, entries of `self.hashes` and distances, int64, uint8 [P]; every near pair exactly once."""
        queries = np.asarray(queries, np.uint64)
        for band, width in enumerate(self._widths):
            values = self._band(queries, band)
            for mask in _masks(width, self._radius):
                begins = self._starts[band][values ^ mask]
                counts = self._starts[band][(values ^ mask) + 1] - begins
                for rows in _spans(counts):
                    query = np.repeat(np.arange(rows.start, rows.stop), counts[rows])
                    offsets = np.cumsum(counts[rows]) - counts[rows]
                    place = np.arange(len(query)) + np.repeat(begins[rows] - offsets, counts[rows])
                    entry = self._orders[band][place]
                    different = queries[query] ^ self.hashes[entry]
                    apart = np.bitwise_count(different)
                    chosen = np.flatnonzero(apart <= self.distance)
                    for earlier in range(band):  # a pair is told by the first band that finds it
                        told = np.bitwise_count(self._band(different[chosen], earlier)) <= self._radius
                        chosen = chosen[~told]
                    if len(chosen):
                        yield query[chosen], entry[chosen], apart[chosen]

    def nearest(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the row of the nearest hash within the distance and how far it is, int64, uint8 [Q]; of equal ones
        the first row. Where there is none, row -1 and distance 65."""
        distinct, inverse = np.unique(np.asarray(queries, np.uint64), return_inverse=True)
        best = np.full(len(distinct), _NONE, np.uint8)
        row = np.full(len(distinct), np.iinfo(np.int64).max)
        for query, entry, apart in self.pairs(distinct):
            closer = np.lexsort((self.rows[entry], apart, query))
            query, at = np.unique(query[closer], return_index=True)
            entry, apart = entry[closer][at], apart[closer][at]
            wins = (apart < best[query]) | ((apart == best[query]) & (self.rows[entry] < row[query]))
            best[query[wins]], row[query[wins]] = apart[wins], self.rows[entry[wins]]
        row[best == _NONE] = -1
        return row[inverse], best[inverse]

    def _band(self, hashes: np.ndarray, band: int) -> np.ndarray:
        return ((hashes >> self._shifts[band]) & np.uint64(2 ** self._widths[band] - 1)).astype(np.int64)


def checked_distance(distance: int) -> int:
    """Returns a distance in bits between two hashes; InputError where there is none like it."""
    if not 0 <= distance <= _BITS:
        raise InputError(f"a distance of {distance} bits between hashes of 64: choose 0 to 64")
    return distance


def near_pairs(hashes: np.ndarray, distance: int) -> np.ndarray:
    """Returns all pairs of distinct hashes within a distance in bits, int64 [P, 2], first < second, in order.

    `hashes` is uint64 [N] without repetition (`numpy.unique` groups equal ones: of N copies it would be N²/2 pairs);
    InputError otherwise. Holds the pairs, and what `Index` holds.
    """
    hashes = np.asarray(hashes, np.uint64)
    index = Index(hashes, distance)
    if len(index.hashes) < len(hashes):
        repeated = len(hashes) - len(index.hashes)
        raise InputError(f"{repeated:,} of {len(hashes):,} hashes repeat others: group them first (numpy.unique)")
    found = [np.empty((0, 2), np.int64)]
    for first, entry, _ in index.pairs(hashes):
        second = index.rows[entry]
        once = first < second
        found.append(np.stack([first[once], second[once]], axis=1))
    pairs = np.concatenate(found)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


class _Part(NamedTuple):
    rows: np.ndarray
    hashes: np.ndarray
    search: Index


class Originals:
    """Hashes as they come, of which those are originals that are near to no earlier original.

    An image that is near a near-duplicate only is an original: chains don't drag in what they lead to. Holds what
    `Index` holds, for the originals; they are sorted again log N times as their number grows.
    """

    def __init__(self, distance: int):
        self.distance = checked_distance(distance)
        self._count = 0
        self._parts: list[_Part] = []  # each more than twice as large as the next

    def add(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Takes the next hashes, uint64 [N], and returns each one's original and their distance, int64, uint8 [N].

        Rows are counted over all that was ever added; an original has its own row. Of several near originals it is
        the nearest, then the first.
        """
        hashes = np.asarray(hashes, np.uint64)
        own = np.arange(self._count, self._count + len(hashes))
        originals, apart = np.full(len(hashes), -1), np.full(len(hashes), _NONE, np.uint8)
        for part in self._parts:  # oldest first: of equally near ones the first stays
            found, distances = part.search.nearest(hashes)
            closer = distances < apart
            originals[closer], apart[closer] = part.rows[found[closer]], distances[closer]
        new: list[int] = []
        fresh = np.empty(len(hashes), np.uint64)  # places of the originals among these, and their hashes
        for place, one in enumerate(hashes):
            distances = np.bitwise_count(fresh[: len(new)] ^ one)
            nearest = int(np.argmin(distances)) if new else -1
            if new and distances[nearest] <= self.distance and distances[nearest] < apart[place]:
                originals[place], apart[place] = own[new[nearest]], distances[nearest]
            elif originals[place] < 0:
                originals[place], apart[place] = own[place], 0
                fresh[len(new)] = one
                new.append(place)
        self._count += len(hashes)
        if new:
            self._hold(own[new], hashes[new])
        return originals, apart

    def _hold(self, rows: np.ndarray, hashes: np.ndarray) -> None:
        while self._parts and len(self._parts[-1].rows) <= 2 * len(rows):
            last = self._parts.pop()
            rows, hashes = np.concatenate([last.rows, rows]), np.concatenate([last.hashes, hashes])
        self._parts.append(_Part(rows, hashes, Index(hashes, self.distance)))


def _bands_for(count: int, distance: int) -> int:
    """How many bands cost the least: few wide ones have small buckets, but more values that are near."""

    def cost(number: int) -> float:
        width = -(-_BITS // number)
        values = sum(math.comb(width, bits) for bits in range(distance // number + 1))
        return number * (2**width + count * values * (_LOOK_UP + count / 2**width))

    return min(range(3, 17), key=cost)


def _masks(width: int, radius: int) -> Iterator[int]:
    """All numbers of `width` bits of which at most `radius` are set."""
    for number in range(radius + 1):
        for bits in itertools.combinations(range(width), number):
            yield sum(1 << bit for bit in bits)


def _spans(counts: np.ndarray) -> Iterator[slice]:
    """Slices of neighbouring rows whose counts sum up to at most `_CANDIDATES`, or of a single row."""
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _CANDIDATES, side="right")))
        yield slice(start, stop)
        start = stop
