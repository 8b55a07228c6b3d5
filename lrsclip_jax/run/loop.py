"""The loop: a batch, an update, and then small owners that know when to record, evaluate, save and stop."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax

from lrsclip_jax.run.compiled import CompiledSteps
from lrsclip_jax.run.evaluator import Evaluator
from lrsclip_jax.run.nonfinite import NotFinite
from lrsclip_jax.run.profile import Profile, annotated
from lrsclip_jax.run.recorder import Recorder
from lrsclip_jax.run.saver import Saver
from lrsclip_jax.run.startup import Laps
from lrsclip_jax.run.throughput import Batch
from lrsclip_jax.run.watchdog import Watchdog
from lrsclip_jax.step import TrainState


class Owners(NamedTuple):
    """Who answers for what during the loop."""

    compiled: CompiledSteps
    recorder: Recorder
    evaluator: Evaluator
    saver: Saver
    watchdog: Watchdog
    trace: Profile


def run_steps(
    first: list[TrainState],
    batches: Iterator[Batch],
    steps: range,
    owners: Owners,
    stop: Callable[[], bool],
    laps: Laps,
) -> int | None:
    """Trains on a batch for each of `steps`. All processes of a run call it together.

    Args:
      first: the state after step `steps.start - 1`, alone in a list. It is taken out, so that no caller holds it: where
        the step keeps its old state, two of them would stay in memory.
      batches: on the devices, at least as many as steps.
      steps: of the run that are left; none for a finished run, which is only evaluated.
      owners: of recording, evaluating, saving and so on.
      stop: whether to save and leave, the same on all processes; asked once after every step.
      laps: of the start, which ends with the first step.

    Returns:
      The step after which it was stopped, saved; None if all steps are done.

    Raises:
      NotFinite: a step was not finite; the state before it is saved.
      InputError: everything else that a user can mend.
    """
    compiled, recorder, evaluator, saver, watchdog, trace = owners
    state = first.pop()
    if evaluator.missed(steps.start - 1):
        evaluator.evaluate(state.weights, steps.start - 1)
        laps.end("evaluation")
    try:
        for step in steps:
            trace.before(step)
            with annotated(step):
                batch = recorder.next_batch(batches)
                state, metrics = compiled.step_for(batch)(state, batch)
            recorder.add(step, batch, metrics)
            if step == steps.start:
                recorder.wait_for(metrics)
                _tell_start(laps)
            watchdog.step(step)
            trace.after(step, metrics)

            stops, saves, scores = stop(), saver.due(step), None
            if evaluator.due_before_save(step):
                scores = evaluator.evaluate(state.weights, step)
            if stops or saves or scores is not None:
                saver.save(state, step, scores)
            if stops:
                return step
            if evaluator.due_after_save(step):
                evaluator.evaluate(state.weights, step)
    except NotFinite as error:
        saver.save_before(state, error.step)
        raise
    finally:
        recorder.close()
    return None


def _tell_start(laps: Laps) -> None:
    laps.end("first step")
    if jax.process_index() == 0:
        print(f"start-up: {laps.line()}", file=sys.stderr)
