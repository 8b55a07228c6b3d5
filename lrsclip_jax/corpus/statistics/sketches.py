"""Counts in bounded memory: the most frequent items, and the number of different ones."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Any


class Frequent:
    """How often each item occurs; beyond `limit` different ones the rarer half is forgotten (lossy counting).

    Attributes:
      counts: of the items that are remembered.
      missed: by how much any of these counts may be too small; 0 as long as nothing was forgotten.
    """

    def __init__(self, limit: int = 1 << 18):
        self.counts: Counter[Any] = Counter()
        self.missed = 0
        self._limit = limit

    def update(self, items: Iterable[Hashable]) -> None:
        """Counts items."""
        self.counts.update(items)
        if len(self.counts) > self._limit:
            median = sorted(self.counts.values())[len(self.counts) // 2]
            self.counts = Counter({item: count for item, count in self.counts.items() if count > median})
            self.missed += median

    def top(self, number: int) -> list[tuple[Any, int]]:
        """Returns the most frequent items with their counts, equally frequent ones in order of their names."""
        return heapq.nsmallest(number, self.counts.items(), key=lambda item: (-item[1], item[0]))


class Distinct:
    """How many different texts there were: exact up to `size`, then off by 1 / √size in the standard deviation.

    It keeps the `size` smallest hashes; how far they reach tells how many there are (Bar-Yossef et al., 2002).
    """

    def __init__(self, size: int = 1 << 16):
        self.exact = True
        self._size = size
        self._heap: list[int] = []  # negated, so that the largest hash is on top
        self._kept: set[int] = set()

    def add(self, text: str) -> None:
        """Counts a text, if it was not there before."""
        value = int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())
        if value in self._kept:
            return
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, -value)
            self._kept.add(value)
            return
        self.exact = False
        if value < -self._heap[0]:
            self._kept.remove(-heapq.heapreplace(self._heap, -value))
            self._kept.add(value)

    @property
    def count(self) -> int:
        """How many different texts there were."""
        return len(self._heap) if self.exact else round((self._size - 1) * 2**64 / -self._heap[0])
