"""The train step, compiled for each shape of batch that comes: one, or with packed texts one for each count of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lrsclip_jax.run.startup import Laps
from lrsclip_jax.run.throughput import Batch, text_rows


class Programs:
    """The compiled programs of a step, by the shapes of the batches that they are for.

    `batch in programs` says whether there is one for such a batch, and `programs[batch]` is it.
    """

    def __init__(self, step: Any, state: Any):
        """Nothing is compiled yet.

        Args:
          step: jitted, (state, batch) to anything (lrsclip_jax.step.make_train_step).
          state: shapes, dtypes and shardings of the state, the same for all programs.
        """
        self._step = step
        self._state = state
        self._compiled: dict[frozenset, Callable] = {}

    def __contains__(self, batch: Batch) -> bool:
        return _shapes(batch) in self._compiled

    def __getitem__(self, batch: Batch) -> Callable:
        return self._compiled[_shapes(batch)]

    def compile(self, batch: Batch, laps: Laps) -> None:
        """Compiles the step for batches like this one; for large models that takes minutes."""
        traced = self._step.lower(self._state, batch)
        laps.end("trace")
        self._compiled[_shapes(batch)] = traced.compile()
        laps.end("compile")


def told(batch: Batch) -> str:
    """Returns a batch's shapes in words: "128 images of 64 px, texts in 128 × 144 + 128 × 32 slots"."""
    images, size = batch["image"].shape[:2]
    rows = " + ".join(f"{count:,} × {length}" for count, length in text_rows(batch))
    return f"{images:,} images of {size} px, texts in {rows} slots"


def _shapes(batch: Batch) -> frozenset:
    return frozenset((key, array.shape) for key, array in batch.items())
