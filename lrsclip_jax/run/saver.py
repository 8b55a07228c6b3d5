"""The saver: when a checkpoint is due, and that nothing is saved that may not be finite."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict
from orbax.checkpoint import v1 as ocp

from lrsclip_jax.run import checkpoint
from lrsclip_jax.run.preemption import any_process
from lrsclip_jax.run.recorder import Recorder
from lrsclip_jax.step import TrainState


class Saver:
    """Saves the state of a run every few steps, every few minutes, and after the last step."""

    def __init__(
        self,
        checkpoints: ocp.training.Checkpointer,
        about: dict[str, Any],
        recorder: Recorder,
        config: ConfigDict,
        *,
        done: int,
        total_steps: int,
    ):
        """Begins with the state after step `done` saved.

        Args:
          checkpoints: from `checkpoint.open_checkpoints`.
          about: from `checkpoint.metadata`.
          recorder: knows whether the steps so far were finite.
          config: `config.checkpoint`.
          done: steps that are done.
          total_steps: of the run.
        """
        self._checkpoints = checkpoints
        self._about = about
        self._recorder = recorder
        self._every_steps = config.every_steps
        self._every_seconds = 60 * config.every_minutes
        self._total_steps = total_steps
        self._saved, self._saved_at = done, time.perf_counter()
        self._late = any_process(self._is_late)

    def due(self, step: int) -> bool:
        """Returns whether to save after `step`, the same on all processes. Every process asks once after every step."""
        # Several processes learn of their clocks a step late, so also of a clock that the last save has obeyed already.
        late = self._late() and step > self._saved + 1
        return late or step == self._total_steps or step % self._every_steps == 0

    def save(self, state: TrainState, step: int, scores: Mapping[str, float] | None = None) -> None:
        """Saves the state after `step` once it is known to be finite; `scores` say whether it is among the best.

        Raises:
          NotFinite: a step before was not finite: nothing is saved.
          InputError: the checkpoint can't be written.
        """
        with self._recorder.aside("checkpoint"):
            checkpoint.save(self._checkpoints, state, step, self._about, scores)
        self._saved, self._saved_at = step, time.perf_counter()

    def save_before(self, state: TrainState, step: int) -> None:
        """Saves the state before `step`, which was not finite and has stopped `state` there, if it is not saved yet."""
        newest = self._checkpoints.latest
        if step > 1 and (newest is None or newest.step < step - 1):
            before = dataclasses.replace(state, skipped=state.skipped - 1)
            checkpoint.save(self._checkpoints, before, step - 1, self._about)

    def _is_late(self) -> bool:
        return time.perf_counter() - self._saved_at > self._every_seconds
