"""Ids that come again get a number, whatever the number of records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.errors import InputError

_RECENT = 1 << 16  # hashes that are held as a set


def numbered(records: Iterable[CorpusRecord | SetAside]) -> Iterator[CorpusRecord | SetAside]:
    """Gives ids that come again a number, "a.jpg#2"; for sources that are read one after the other, too.

    Holds a hash of each id, 8 bytes or a little more, and the last number of those that came again.
    """
    seen = _Hashes()
    last: dict[str, int] = {}
    try:
        for record in records:
            if isinstance(record, CorpusRecord):
                id, number = record.id, last.get(record.id, 1)
                while hash(id) in seen:
                    number += 1
                    id = f"{record.id}#{number}"
                seen.add(hash(id))
                if number > 1:
                    last[record.id] = number
                    record = replace(record, id=id)
            yield record
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise InputError(f"{error.filename}: can't be read ({error.strerror})") from None


class _Hashes:
    """A set of integers of 64 bits: a sorted array, and a small set of those that came last."""

    def __init__(self) -> None:
        self._sorted, self._recent = np.zeros(0, np.int64), set[int]()

    def __contains__(self, value: int) -> bool:
        if value in self._recent:
            return True
        at = int(self._sorted.searchsorted(value))
        return at < len(self._sorted) and int(self._sorted[at]) == value

    def add(self, value: int) -> None:
        self._recent.add(value)
        if len(self._recent) >= max(_RECENT, len(self._sorted) // 8):
            recent = np.fromiter(self._recent, np.int64, len(self._recent))
            self._sorted = np.sort(np.concatenate([self._sorted, recent]), kind="stable")
            self._recent = set()
