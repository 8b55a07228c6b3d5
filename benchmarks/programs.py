"""The train steps that `benchmarks.step` compares, and the job that all of them do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from benchmarks.lengths import texts
from lrsclip_jax import config as configs
from lrsclip_jax.data.batches.batch import BatchShape, packed, padded, text_lengths
from lrsclip_jax.data.tokenizer import cut
from lrsclip_jax.plan.lrs2m_lengths import LONGEST, Lengths
from lrsclip_jax.plan.lrs2m_lengths import drawn_lengths as lrs2m_lengths

RECIPE = "configs/vitb16.py"

# Ours by name: what the config says beyond the recipe. Packed rows, too, hold short texts whole.
_PACKED = ("data.packed=True", f"data.short_length={LONGEST}")
OURS = {
    "packed": _PACKED,
    "two-length": ("data.packed=False", "data.short_length=77"),
    "padded": ("data.packed=False", f"data.short_length={LONGEST}"),
    "int8": (*_PACKED, "model.image.products=int8", "model.text.products=int8"),
}
# PyTorch's by name: slots of a short text; long ones have 248. The first pads as the reference does.
TORCH = {"PyTorch": LONGEST, "PyTorch, short at 77": 77}

# Tokens that each leaves of a short text.
KEPT = {"packed": LONGEST, "two-length": 77, "padded": LONGEST, "int8": LONGEST} | TORCH

WEIGHTS = "weights.npz"  # that PyTorch's side writes and ours reads, by the names of transformers' CLIPModel


class Prepared(NamedTuple):
    """A program ready to run.

    Attributes:
      loss: of its first step, from the first weights.
      compiling: seconds, None for a program that is not compiled.
      memory: bytes on the device at the peak, None where nobody counts them.
    """

    loss: float
    compiling: float | None
    memory: int | None


@dataclass(frozen=True)
class Job:
    """Batches of `pairs` pairs for a model of the zoo, equal for every program that asks.

    Batch `index` has texts of its own, of lengths as in LRS2M; the pixels are random and the same in all. `keys` are
    overrides of the recipe.
    """

    model: str
    pairs: int
    keys: tuple[str, ...] = ()

    def config(self, overrides: tuple[str, ...] = ()) -> ConfigDict:
        """Returns the recipe for this model and batch with the job's overrides, KEY=VALUE, and further ones."""
        return configs.load(RECIPE, [f"model.name={self.model}", f"batch_size={self.pairs}", *self.keys, *overrides])

    def lengths(self, index: int) -> Lengths:
        """Returns the lengths of the texts of a batch."""
        return lrs2m_lengths(self.pairs, seed=index)

    def texts(self, index: int, end_token: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Returns the long and the short texts of a batch."""
        rng, drawn = np.random.default_rng((0, index)), self.lengths(index)
        return texts(drawn.long, end_token, rng), texts(drawn.short, end_token, rng)

    def images(self, size: int) -> np.ndarray:
        """Returns the pixels of a batch, uint8 [pairs, size, size, 3]."""
        return np.random.default_rng(0).integers(0, 256, (self.pairs, size, size, 3), np.uint8)


def batch_of(
    config: ConfigDict, images: np.ndarray, long: Sequence[np.ndarray], short: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns a batch of pairs that all have both texts, put together as training does for one device."""
    data, pairs = config.data, len(images)
    lengths = (data.long_length, data.short_length)
    shape = BatchShape(
        pairs, *lengths, row_length=data.row_length if data.packed else None, groups=config.train.microbatches
    )
    texts = {
        kind: [cut(ids.tolist(), shape.length(kind), int(ids[-1])) for ids in found]
        for kind, found in (("long", long), ("short", short))
    }
    if not data.packed:
        return {"image": images} | padded(texts, shape, pad=0)
    return {"image": images} | packed(texts, shape, np.arange(pairs), text_lengths(texts))
