"""Which shapes packed batches will have: from the texts of the sources, or of texts as long as LRS2M's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lrsclip_jax.data.batches import mixture
from lrsclip_jax.data.batches.batch import BatchShape
from lrsclip_jax.data.batches.global_lengths import global_lengths
from lrsclip_jax.data.batches.packing import place
from lrsclip_jax.data.prepared.records import NEGATIVE
from lrsclip_jax.data.tokenizer import tokenizer_for
from lrsclip_jax.models import zoo
from lrsclip_jax.plan.lrs2m_lengths import drawn_lengths
from lrsclip_jax.setup import Setup

# How many pairs are looked at, and in how many batches at least and at most.
_PAIRS, _BATCHES = 1 << 18, (4, 64)


@dataclass(frozen=True)
class PackedShapes:
    """The shapes to expect of packed batches.

    Attributes:
      source: whose texts were looked at, in words.
      row_length: slots of a row.
      shares: number of rows in a whole batch -> share of the batches that have this number.
      tokens, squares: of a pair, on average: of its texts together, and the sum of their squared lengths.
      filled: share of all slots that hold a token.
    """

    source: str
    row_length: int
    shares: dict[int, float]
    tokens: float
    squares: float
    filled: float


def expected_shapes(setup: Setup) -> PackedShapes:
    """Packs the first batches of `data.sources` as training will, or where none are given batches of LRS2M's lengths.

    Only lengths are read. Raises InputError for sources that training would refuse.
    """
    config, shape = setup.config, setup.layout
    if shape.row_length is None:
        raise ValueError("the texts of this set-up are padded, not packed")
    if config.data.sources:
        tokenizer = tokenizer_for(zoo.text_kind(setup.model))
        lengths = global_lengths(mixture.open_sources(config), tokenizer, shape, config.seed)
        source = "data.sources"
    else:
        lengths, source = _lrs2m_lengths(shape, config.seed), "LRS2M's lengths (its Table I)"
    least, most = _BATCHES
    counts, tokens, squares = Counter[int](), 0, 0
    for step in range(min(max(_PAIRS // shape.batch_size, least), most)):
        batch = lengths(step)
        tokens += int(batch.sum())
        squares += int((batch.astype(np.int64) ** 2).sum())
        counts[place(batch, shape.groups, shape.row_length)[1] * shape.groups] += 1
    batches, slots = counts.total(), sum(rows * times for rows, times in counts.items()) * shape.row_length
    shares = {rows: times / batches for rows, times in sorted(counts.items())}
    pairs = batches * shape.batch_size
    return PackedShapes(source, shape.row_length, shares, tokens / pairs, squares / pairs, tokens / slots)


def _lrs2m_lengths(shape: BatchShape, seed: int) -> Callable[[int], np.ndarray]:
    def lengths(step: int) -> np.ndarray:
        drawn = drawn_lengths(shape.batch_size, seed + step)._asdict()
        drawn[NEGATIVE] = drawn["short"]  # from which it differs in a word or two
        cut = [np.minimum(drawn[kind], shape.length(kind)) * (kind in shape.kinds) for kind in shape.all_kinds]
        return np.stack(cut, axis=1)

    return lengths
