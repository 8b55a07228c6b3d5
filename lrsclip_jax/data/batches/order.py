"""Which record stands where in a run: Grain's global shuffle and mixture, asked for numbers instead of elements.

`grain.MapDataset` gives the same records and random numbers one by one, each for as long as it takes to read a record;
every host of a run needs those of whole global batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lrsclip_jax.data.batches.shuffle import index_shuffle


class Places(NamedTuple):
    """What stands at some positions, each int64 of their shape: a record of a source, and its turn.

    Attributes:
      source: its number.
      record: the record's number in the source.
      turn: how many records of this source came before, from the start of the run.
    """

    source: np.ndarray
    record: np.ndarray
    turn: np.ndarray


class Order:
    """The endless order of a run's records: each source shuffled anew every epoch, all mixed by weight.

    It is that of `MapDataset.mix([source(range(n)).seed(seed + i).shuffle().repeat() …], weights)` in Grain.
    """

    def __init__(self, lengths: Sequence[int], weights: Sequence[float], seed: int):
        """`lengths` are the records of each source, `weights` how often each has its turn beside the others."""
        self._lengths = lengths
        # As in Grain, to a per cent of the least.
        self._weights = [int(weight * (100 / min(weights))) for weight in weights]
        # Grain seeds what follows seed() by that and by how far behind it stands: shuffle() 1, random_map() 3.
        self._shuffles = [_derived(seed + source, 1) for source in range(len(lengths))]
        draws = [np.random.SeedSequence(_derived(seed + source, 3)) for source in range(len(lengths))]
        self._keys = [each.generate_state(2, np.uint64) for each in draws]

    def places(self, positions: np.ndarray) -> Places:
        """Returns what stands at these positions, int64 of any shape."""
        source, turn = _mixed(np.asarray(positions, np.int64), self._weights)
        epoch, index = np.divmod(turn, np.asarray(self._lengths)[source])
        record = np.empty_like(index)
        for number, of in sorted(set(zip(source.ravel().tolist(), epoch.ravel().tolist(), strict=True))):
            here = (source == number) & (epoch == of)
            record[here] = index_shuffle(index[here], self._lengths[number], (self._shuffles[number] + of) % 2**32)
        return Places(source, record, turn)

    def generator(self, source: int, turn: int) -> np.random.Generator:
        """Returns random numbers for this turn of a source alone, those of Grain's `random_map` behind `repeat`."""
        counter = np.array([0, 0, 0, turn], np.uint64)
        return np.random.Generator(np.random.Philox(key=self._keys[source], counter=counter))


def _derived(seed: int, distance: int) -> int:
    return int(np.random.SeedSequence([seed, distance]).generate_state(1, np.uint32)[0])


def _mixed(positions: np.ndarray, weights: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the source of each position, and how many records of that source stand before it.

    One source after the other takes its share of the positions that those before it left, evenly to within one.
    """
    source, turn = np.full_like(positions, -1), np.zeros_like(positions)
    before, after, rest = positions, positions + 1, sum(weights)
    for number, weight in enumerate(weights):
        left_before, left_after = (count * (rest - weight) // rest for count in (before, after))
        taken = (source < 0) & (before - left_before != after - left_after)
        source[taken], turn[taken] = number, (before - left_before)[taken]
        before, after, rest = left_before, left_after, rest - weight
    return source, turn
