"""The evaluator: when the held-out sets are scored, and what the newest scores are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from etils import epath

from lrsclip_jax import heldout
from lrsclip_jax.hosts import distributed
from lrsclip_jax.run.forgetting import Forgetting
from lrsclip_jax.run.metrics import has_scores
from lrsclip_jax.run.recorder import Recorder
from lrsclip_jax.run.watchdog import Watchdog

Score = Callable[[Any], list[heldout.Table]]


class Evaluator:
    """Scores the held-out sets every few steps, after the last one, and, if wanted, before the first.

    Attributes:
      tables: of the newest evaluation, one for each set; None before the first.
    """

    def __init__(
        self,
        score: Score,
        recorder: Recorder,
        watchdog: Watchdog,
        run: epath.Path,
        *,
        every_steps: int,
        total_steps: int,
        decides: bool,
        at_start: bool = False,
        forgetting: Forgetting | None = None,
    ):
        """Begins without scores.

        Args:
          score: from parameters to the tables of the held-out sets; all processes call it together.
          recorder: writes the scores.
          watchdog: paused meanwhile, for an evaluation may last longer than a step.
          run: the run's folder.
          every_steps: from one evaluation to the next; 0: after the last step only.
          total_steps: of the run.
          decides: whether the scores decide which checkpoints are kept (`checkpoint.best`).
          at_start: whether to evaluate before the first step, as step 0.
          forgetting: warns of scores below their start; None in all processes of a run but one.
        """
        self._score = score
        self._recorder = recorder
        self._watchdog = watchdog
        self._run = run
        self._every_steps = every_steps
        self._total_steps = total_steps
        self._decides = decides
        self._at_start = at_start
        self._forgetting = forgetting
        self._written = False  # whether the scores of the next evaluation are in the run's metrics
        self.tables: list[heldout.Table] | None = None

    def due_before_save(self, step: int) -> bool:
        """Returns whether to evaluate after `step` and then to save: these scores decide about the checkpoint."""
        return self._decides and self._due(step)

    def due_after_save(self, step: int) -> bool:
        """Returns whether to evaluate after `step`, once any checkpoint is saved: what was learnt is safe first."""
        return not self._decides and self._due(step)

    def missed(self, done: int) -> bool:
        """Returns whether a run that begins after step `done` evaluates first, the same on all processes.

        It does if it is new and wants scores of its start, if it ended between a checkpoint and its scores, or if it is
        finished and was started again.
        """
        if not (self._due(done) if done else self._at_start):
            return False
        written = distributed.from_first(lambda: has_scores(self._run, done))
        self._written = written and done == self._total_steps
        return self._written or not written

    def evaluate(self, params: Any, step: int) -> dict[str, float]:
        """Scores the parameters after `step` once they are known to be finite, and writes and returns the scores.

        Those of a finished run are there already, and not written again.

        Raises:
          NotFinite: a step before was not finite: nothing is scored.
        """
        with self._recorder.aside("evaluation"), self._watchdog.paused():
            self.tables = self._score(params)
        scores = heldout.flat(self.tables)
        fallen = self._forgetting.check(step, scores) if self._forgetting else {}
        if not self._written:
            self._recorder.write(step, scores | fallen)
        self._written = False
        return scores

    def _due(self, step: int) -> bool:
        return step == self._total_steps or bool(self._every_steps and step % self._every_steps == 0)
