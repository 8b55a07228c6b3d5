"""Forgetting: held-out scores that fall below those before the first step, and the warning that says so.

Fine-tuning may take more from a model than it gives: zero-shot accuracy and the retrieval of other sets fall while the
loss of the training set falls, too. `config.eval.guard` says which scores are watched, and how far each may fall.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from etils import epath

from lrsclip_jax.run.metrics import read_metrics

MARGIN = 1.0  # per cent; less than a thousand images tell apart
PREFIX = "forgotten/"  # of the fields of metrics.jsonl: how far a score lies below its start

_ADVICE = (
    "Try a lower optimizer.learning_rate, fewer trained parameters (optimizer.freeze, LoRA), loss.preserve, or "
    "`lrsclip interpolate` between the start and this run"
)


def scores_before(metrics: Sequence[Mapping]) -> dict[str, float]:
    """Returns the scores before the first step, "eval/SET/long/mean_recall" and so on; none of a run without them."""
    rows = (row for row in metrics if row["step"] == 0)
    return {name: value for row in rows for name, value in row.items() if name.startswith("eval/")}


class Forgetting:
    """Compares the scores of each evaluation with those before the first step; one process of a run does."""

    def __init__(self, run: epath.Path, watched: Sequence[tuple[str, float]] | None):
        """Begins without scores.

        Args:
          run: the run's folder, whose metrics.jsonl has the start of a run that is continued.
          watched: `config.eval.guard`, pairs of a score and its margin in per cent; None: the mean recall of each kind
            of text and the zero-shot accuracy of each set, with `MARGIN`.
        """
        self._run = run
        self._watched = watched
        self._start: dict[str, float] | None = None

    def check(self, step: int, scores: Mapping[str, float]) -> dict[str, float]:
        """Warns of the watched scores that lie below their start by more than their margin, and returns how far.

        Args:
          step: of the evaluation; 0 is the start.
          scores: `lrsclip_jax.heldout.flat` of it, in per cent.

        Returns:
          "forgotten/SET/long/mean_recall" and so on, for metrics.jsonl.
        """
        if step == 0:
            self._start = dict(scores)
            return {}
        if self._start is None:
            self._start = scores_before(read_metrics(self._run))
            if self._watched and not self._start:
                print("note: eval.guard watches nothing: this run has no scores of its start", file=sys.stderr)
        fallen = below(self._start, scores, self._watched)
        for name, margin in fallen.items():
            print(
                f"warning: step {step}: {name} is {scores[name]:.2f}, below its start of {self._start[name]:.2f} by "
                f"more than {margin:g}: the model forgets. {_ADVICE}.",
                file=sys.stderr,
            )
        return {PREFIX + name.removeprefix("eval/"): self._start[name] - scores[name] for name in fallen}


def below(
    start: Mapping[str, float], scores: Mapping[str, float], watched: Sequence[tuple[str, float]] | None = None
) -> dict[str, float]:
    """Returns the watched scores that lie below their start by more than their margin, with that margin."""
    if watched is None:
        watched = [(name, MARGIN) for name in scores if _is_usual(name)]
    return {
        name: margin
        for name, margin in watched
        if name in start and name in scores and scores[name] < start[name] - margin
    }


def sentences(metrics: Sequence[Mapping]) -> list[str]:
    """Returns a sentence for the report on each score that fell below its start, from the rows of metrics.jsonl."""
    start = scores_before(metrics)
    found: dict[str, list[tuple[int, float]]] = {}
    for row in metrics:
        for field, by in row.items():
            if field.startswith(PREFIX):
                found.setdefault(field.removeprefix(PREFIX), []).append((int(row["step"]), by))
    said = []
    for name, points in found.items():
        first, last = points[0], points[-1]
        later = "" if first == last else f", and {last[1]:.2f} at step {last[0]:,}"
        began = f" of {start[f'eval/{name}']:.2f}" if f"eval/{name}" in start else ""
        said.append(f"{name} fell below its start{began}: by {first[1]:.2f} at step {first[0]:,}{later}.")
    return [*said, f"{_ADVICE}."] if said else []


def _is_usual(name: str) -> bool:
    """Whether a score is the mean recall of a kind of text, uncut, or a zero-shot accuracy."""
    return name.endswith(("/long/mean_recall", "/short/mean_recall", "/zeroshot/accuracy"))
