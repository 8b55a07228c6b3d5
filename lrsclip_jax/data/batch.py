"""A batch: what it looks like, and how it is put together of its pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lrsclip_jax.data.packing import pack, place
from lrsclip_jax.data.records import KINDS
from lrsclip_jax.errors import InputError


@dataclass(frozen=True)
class BatchShape:
    """What a batch looks like.

    Attributes:
      batch_size: pairs of the global batch.
      long_length, short_length: at how many tokens texts are cut; without packing also how many slots each takes.
      kinds: the texts that the loss uses; others are neither packed nor padded.
      row_length: None, or the slots of the rows that all texts of a group share.
      groups: of the global batch, each with rows of its own: the shards of the mesh times the microbatches.
    """

    batch_size: int
    long_length: int
    short_length: int
    kinds: tuple[str, ...] = KINDS
    row_length: int | None = None
    groups: int = 1

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if self.row_length is not None and self.length(kind) > self.row_length:
                raise InputError(
                    f"data.{kind}_length is {self.length(kind)}, but a row has {self.row_length} slots: "
                    "raise data.row_length"
                )

    def length(self, kind: str) -> int:
        return {"long": self.long_length, "short": self.short_length}[kind]


class Example(NamedTuple):
    """A pair on its way into a batch: pixels uint8 [H, W, 3], the ids of its texts, cut, or None, and their lengths as
    they were drawn, which stay where an image that can't be read takes the texts with it."""

    image: np.ndarray
    texts: dict[str, np.ndarray | None]
    lengths: dict[str, int]


def padded(examples: Sequence[Example], shape: BatchShape, pad: int) -> dict[str, np.ndarray]:
    """Returns a batch whose texts have a row each, filled up with `pad`."""
    batch = _images(examples)
    batch |= {kind: np.full((len(examples), shape.length(kind)), pad, np.int32) for kind in KINDS}
    for row, example in enumerate(examples):
        for kind in KINDS:
            ids = example.texts[kind]
            if ids is not None:
                batch[kind][row, : len(ids)] = ids
    return batch


def packed(
    examples: Sequence[Example], shape: BatchShape, rows: np.ndarray, lengths: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns a batch whose texts share rows, as many in every group.

    Args:
      examples: of some of the pairs of a global batch, whole groups of them.
      shape: of the batch.
      rows: int [examples], which pairs of the global batch they are.
      lengths: int [B, 2], of the texts of the global batch as they were drawn; they alone say how many rows there are.
    """
    pairs = shape.batch_size // shape.groups
    placed, granted = place(lengths, shape.groups, shape.row_length)
    groups = []
    for start in range(0, len(rows), pairs):
        group = int(rows[start]) // pairs
        if not np.array_equal(rows[start : start + pairs], np.arange(group * pairs, (group + 1) * pairs)):
            raise ValueError(f"rows {rows[start : start + pairs]} are no group of {pairs} pairs")
        texts = [example.texts for example in examples[start : start + pairs]]
        long, short = ([each[kind] for each in texts] for kind in KINDS)
        groups.append(pack(long, short, placed[group], shape.row_length, granted))
    return _images(examples) | {key: np.concatenate([group[key] for group in groups]) for key in groups[0]}


def drawn_lengths(examples: Sequence[Example], rows: np.ndarray) -> np.ndarray:
    """Returns the lengths that `packed` wants, of a global batch all of whose pairs are here."""
    lengths = np.zeros((len(rows), len(KINDS)), np.int64)
    lengths[rows] = [[example.lengths[kind] for kind in KINDS] for example in examples]
    return lengths


def _images(examples: Sequence[Example]) -> dict[str, np.ndarray]:
    has = {f"has_{kind}": np.asarray([each.texts[kind] is not None for each in examples]) for kind in KINDS}
    return {"image": np.stack([each.image for each in examples]), **has}
