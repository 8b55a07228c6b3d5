"""What is told of a step whose loss or gradient was not finite: a line, and a file that names its batch's records."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from etils import epath

ADVICE = "Look at these records, lower optimizer.learning_rate, or set optimizer.clip_norm; what is saved is unharmed"


def tell(run: epath.Path, step: int, metrics: Mapping[str, float], records: Sequence[str], *, writes: bool) -> str:
    """Returns what was not finite and where its records are named; `writes` that file, on one process of a run.

    Args:
      run: the run's folder.
      step: whose update was not done.
      metrics: of that step, "loss" and "gradient_norm" among them.
      records: the ids of the batch's records, in the order of its rows.
    """
    path = run / f"nonfinite-{step}.json"
    if writes:
        _write(path, step, metrics, records)
    broken = [f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value)]
    return f"{' and '.join(broken)} at step {step}, on the records that {path} names"


def _write(path: epath.Path, step: int, metrics: Mapping[str, float], records: Sequence[str]) -> None:
    # JSON has no NaN.
    values = {name: value if math.isfinite(value) else str(value) for name, value in metrics.items()}
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"step": step, **values, "records": [*records]}, indent=2) + "\n")
    temporary.replace(path)
