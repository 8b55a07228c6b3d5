"""A step whose loss or gradient was not finite: a line, and a file that names its batch's records."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from etils import epath

from eval.whole import write_text
from lrsclip_jax.errors import InputError

_ADVICE = "Look at these records, lower optimizer.learning_rate, or set optimizer.clip_norm; what is saved is unharmed"


class NotFinite(InputError):
    """The end of a run at `step`, whose loss or gradient was not finite; the state stays as it was before it."""

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step


@dataclass(frozen=True)
class Guard:
    """Stops a run when more updates were skipped than it may skip, and warns of those before.

    Attributes:
      run: the run's folder.
      records: returns the ids of the records in the batch of a step, in the order of its rows.
      max_skipped: updates that may be left out because their loss or gradient is not finite.
      writes: whether this process writes the file and prints the warning; one of a run does.
    """

    run: epath.Path
    records: Callable[[int], Sequence[str]]
    max_skipped: int
    writes: bool

    def report(self, step: int, metrics: Mapping[str, float], skipped: int) -> None:
        """Reports a step that was not finite, its `metrics` and the updates skipped so far, this one included.

        Raises:
          NotFinite: they are more than `max_skipped`.
        """
        line = describe(self.run, step, metrics, self.records(step), writes=self.writes)
        if skipped > self.max_skipped:
            raise NotFinite(f"{line}. {_ADVICE}", step)
        if self.writes:
            print(f"warning: {line}; skipped, {skipped} of {self.max_skipped} allowed", file=sys.stderr)


def describe(run: epath.Path, step: int, metrics: Mapping[str, float], records: Sequence[str], *, writes: bool) -> str:
    """Returns a line that says which metrics were not finite and which file names the records.

    Args:
      run: the run's folder.
      step: whose update was not done.
      metrics: of that step, "loss" and "gradient_norm" among them.
      records: the ids of the batch's records, in the order of its rows.
      writes: whether this process of the run writes that file.
    """
    path = run / f"nonfinite-{step}.json"
    if writes:
        _write(path, step, metrics, records)
    broken = [f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value)]
    return f"{' and '.join(broken)} at step {step}, on the records that {path} names"


def _write(path: epath.Path, step: int, metrics: Mapping[str, float], records: Sequence[str]) -> None:
    # JSON has no NaN.
    values = {name: value if math.isfinite(value) else str(value) for name, value in metrics.items()}
    write_text(path, json.dumps({"step": step, **values, "records": [*records]}, indent=2) + "\n")
