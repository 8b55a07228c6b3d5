"""Ids of which no two are the same: one that comes again gets a number, "a.jpg#2"."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from lrsclip_jax.sources.item import Item

T = TypeVar("T")
_OFTEN = 8
_BITS = 0xFFFF_FFFF_FFFF_FFFF


class SeenTexts:
    """A set of texts by 64 bits of their hashes, in 11 to 21 bytes each (32 while it grows)."""

    def __init__(self) -> None:
        self._slots = array("Q", [0]) * 1024
        self._count = 0

    def add(self, text: str) -> bool:
        """Adds a text and returns whether it is new."""
        new = _put(self._slots, hash(text) & _BITS or 1)
        self._count += new
        if 4 * self._count > 3 * len(self._slots):
            larger = array("Q", [0]) * (2 * len(self._slots))
            for hashed in self._slots:
                if hashed:
                    _put(larger, hashed)
            self._slots = larger
        return new


def numbered(stream: Iterable[T], kind: Any = Item) -> Iterator[T]:
    """Yields a stream with a number after ids that come again; `kind` is the dataclass in it whose ids count."""
    seen = SeenTexts()
    last: dict[str, int] = {}  # the last number of ids that come often
    for found in stream:
        if isinstance(found, kind) and not seen.add(found.id):
            number = last.get(found.id, 1) + 1
            while not seen.add(f"{found.id}#{number}"):
                number += 1
            if number > _OFTEN:
                last[found.id] = number
            found = replace(found, id=f"{found.id}#{number}")
        yield found


def _put(slots: array[int], hashed: int) -> bool:
    """Puts a hash into a table with open slots (0), whose length is a power of two; False where it is there."""
    last = len(slots) - 1
    at = hashed & last
    while slots[at]:
        if slots[at] == hashed:
            return False
        at = (at + 1) & last
    slots[at] = hashed
    return True
