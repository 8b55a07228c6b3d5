"""The metrics that a run writes: metrics.jsonl and TensorBoard files.

metrics.jsonl has a row every `log.every_steps` steps. Of the batch of its `step`:

    loss, loss_long, loss_short     the weighted sum of both terms, and each alone
    accuracy_long, accuracy_short   share of the images whose own text is the nearest of the batch
    logit_scale, learning_rate      at that step
    gradient_norm
    text_tokens                     in the texts, padding aside
    padding                         share of the text tower's slots that hold no token

Of all steps since the row before, or since the start:

    pairs_per_second                evaluation, checkpoints and the like left out, as in the next four
    tflops_useful                   TFLOP/s of a device (lrsclip_jax.flops): the arithmetic of tokens that are there,
    tflops_executed                 and all that is done, with padding and what is computed again
    mfu                             the useful FLOP/s over the chip's bfloat16 peak (lrsclip_jax.chips), if it is known
    data_wait                       share of the time that the loop waited for a batch
    ms/PART, share/PART             milliseconds a step, and share of all time, of each part of the loop's time
                                    (lrsclip_jax.run.progress) that took any

Rows of an evaluation have eval/SET/… (lrsclip_jax.heldout).
"""

from __future__ import annotations

import json
import os

from etils import epath

from eval.whole import write_text


class MetricWriter:
    """Appends rows of metrics to `metrics.jsonl` and, if wanted, TensorBoard events; one process of a run writes.

    Rows after `step` (written by a run that was killed after its last checkpoint) are dropped first, so that the
    file reads as if there had been no interruption.
    """

    def __init__(self, workdir: epath.Path, step: int, tensorboard: bool):
        self._path = workdir / "metrics.jsonl"
        kept = [row for row in read_metrics(workdir) if row["step"] <= step]
        self._lines = [json.dumps(row) for row in kept]
        self._flush()
        self._events = None
        if tensorboard:
            from tensorboardX import SummaryWriter  # costs a second, and only process 0 of a run needs it

            self._events = SummaryWriter(os.fspath(workdir / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Adds one row, {"step": step, **metrics}."""
        line = json.dumps({"step": step, **metrics})
        self._lines.append(line)
        if self._path.as_posix().startswith("gs:"):
            self._flush()  # an object store has no append
        else:
            with self._path.open("a") as file:
                file.write(line + "\n")
        if self._events:
            for name, value in metrics.items():
                self._events.add_scalar(name, value, step)
            self._events.flush()

    def _flush(self) -> None:
        write_text(self._path, "".join(line + "\n" for line in self._lines))


def read_metrics(workdir: epath.Path) -> list[dict]:
    """Returns the rows of a run's metrics.jsonl, without a last line that was cut off."""
    path = epath.Path(workdir) / "metrics.jsonl"
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def has_scores(workdir: epath.Path, step: int) -> bool:
    """Returns whether a run's metrics.jsonl holds an evaluation of `step`."""
    rows = (row for row in read_metrics(workdir) if row["step"] == step)
    return any(name.startswith("eval/") for row in rows for name in row)
