"""Which record stands at each position of a run: Grain's global shuffle and mixture.

Grain derives what follows `seed()` from that seed and from how far behind it stands; here the derived seeds are given,
so that the random numbers of one record can be asked for without those of all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import grain
import numpy as np
from grain.experimental import RngPool, index_shuffle

_ROUNDS = 4  # as Grain's shuffle() asks for


class Place(NamedTuple):
    """What stands at a position of a run.

    Attributes:
      source: number of the source.
      record: number of the record in this source.
      turn: how many records of this source came before, from the start of the run.
    """

    source: int
    record: int
    turn: int


def endless_order(lengths: Sequence[int], weights: Sequence[float], seed: int) -> grain.MapDataset[Place]:
    """Returns the place at every position: each source shuffled every epoch, all mixed by weight, without end.

    The records are those of `MapDataset.mix([MapDataset.range(n).seed(seed + i).shuffle().repeat() …], weights)`.

    Args:
      lengths: records of each source.
      weights: how often each source has its turn, relative to the others.
      seed: of the run.
    """
    sources = enumerate(zip(lengths, shuffle_seeds(len(lengths), seed), strict=True))
    return grain.MapDataset.mix([_shuffled(source, length, own) for source, (length, own) in sources], weights)


def shuffle_seeds(sources: int, seed: int) -> list[int]:
    """Returns what Grain's `shuffle` is seeded with one step behind `seed(seed + source)`, for each source."""
    return [_derived(seed + source, 1) for source in range(sources)]


def random_numbers(sources: int, seed: int) -> list[RngPool]:
    """Returns for each source the generators of its turns: those of Grain's `random_map` behind `repeat`."""
    return [RngPool(_derived(seed + source, 3)) for source in range(sources)]


def _derived(seed: int, distance: int) -> int:
    return int(np.random.SeedSequence([seed, distance]).generate_state(1, np.uint32)[0])


def _shuffled(source: int, length: int, seed: int) -> grain.MapDataset[Place]:
    def place(turn: int, record: int) -> Place:
        return Place(source, record, turn)

    def place_among_more(turn: int, _: int) -> Place:
        epoch, index = divmod(turn, length)
        return Place(source, _shuffled_among_more(index, length, (seed + epoch) % 2**32), turn)

    records = grain.MapDataset.range(length)
    if _loses_a_record(length):
        return records.repeat().map_with_index(place_among_more)
    return records.shuffle(seed=seed).repeat().map_with_index(place)


def _loses_a_record(length: int) -> bool:
    """Whether Grain's shuffle leaves the last record out: where the index of that is a power of four, from 4^8 on."""
    last = length - 1
    return last >= 4**8 and last.bit_count() == 1 and last.bit_length() % 2 == 1


def _shuffled_among_more(index: int, length: int, seed: int) -> int:
    """The shuffle of one record more, which loses none; where that record comes, the one in its place comes instead."""
    found = index_shuffle(index, max_index=length, seed=seed, rounds=_ROUNDS)
    return found if found < length else index_shuffle(found, max_index=length, seed=seed, rounds=_ROUNDS)
