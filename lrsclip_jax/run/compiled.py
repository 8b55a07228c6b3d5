"""The train step, compiled for each shape of batch: one, or with packed texts one for each number of rows."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import jax

from lrsclip_jax.run.recorder import Recorder
from lrsclip_jax.run.startup import Laps
from lrsclip_jax.run.throughput import Batch, text_rows
from lrsclip_jax.run.watchdog import Watchdog


class CompiledSteps:
    """The compiled steps of a run, by the shapes of their batches."""

    def __init__(self, step: Any, state: Any, recorder: Recorder, watchdog: Watchdog, laps: Laps):
        """Begins without a compiled step.

        Args:
          step: jitted, (state, batch) to anything (lrsclip_jax.step.make_train_step).
          state: shapes, dtypes and shardings of the state, the same for all batches.
          recorder: to which the time of compiling belongs.
          watchdog: paused while a step is compiled, which takes minutes for a large model.
          laps: of the start, to which the first compilation belongs.
        """
        self._step = step
        self._state = state
        self._recorder = recorder
        self._watchdog = watchdog
        self._laps = laps
        self._compiled: dict[frozenset, Callable] = {}

    def step_for(self, batch: Batch) -> Callable:
        """Returns the step for batches with these shapes, (state, batch) to (state, metrics); compiles a new one."""
        shapes = frozenset((key, array.shape) for key, array in batch.items())
        if shapes not in self._compiled:
            self._laps.end("first batch")
            with self._recorder.aside("compile"), self._watchdog.paused():
                self._compiled[shapes] = self._compile(batch)
        return self._compiled[shapes]

    def _compile(self, batch: Batch) -> Callable:
        if jax.process_index() == 0:
            print(f"compiling the step for {describe(batch)}", file=sys.stderr)
        lowered = self._step.lower(self._state, batch)
        self._laps.end("trace")
        compiled = lowered.compile()
        self._laps.end("compile")
        return compiled


def describe(batch: Batch) -> str:
    """Returns a batch's shapes in words: "128 images of 64 px, texts in 128 × 144 + 128 × 32 slots"."""
    if "image" in batch:
        count, size = batch["image"].shape[:2]
        images = f"{count:,} images of {size} px"
    elif "patches" in batch:
        images = "{:,} images in {:,} × {} slots".format(len(batch["has_long"]), *batch["patches"].shape)
    elif "image_words" in batch:
        parts, rows, _ = batch["image_words"].shape
        images = f"{parts * rows:,} images in host memory"
    else:
        images = "{:,} saved features of {} numbers for images".format(*batch["image_features"].shape)
    if {"long_features", "short_features"} & {*batch}:
        return f"{images}, and saved features for texts"
    slots = " + ".join(f"{count:,} × {length}" for count, length in text_rows(batch))
    return f"{images}, texts in {slots} slots"
