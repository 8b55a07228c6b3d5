"""The metrics that a run writes: metrics.jsonl, and what trackers get of it.

metrics.jsonl has a row every `log.every_steps` steps. Of the batch of its `step`:

    loss, loss_long, loss_short     the weighted sum of both terms, and each alone
    accuracy_long, accuracy_short   share of the images whose own text is the nearest of the batch
    loss_text_pca, accuracy_text_pca  of the term of loss.text_pca
    loss_rising, accuracy_rising    of the term of loss.rising: the share of images whose long text scores higher
    loss_hard_negatives, accuracy_hard_negatives  of the term of loss.hard_negatives: the share of images whose short
                                    text scores above its hard negative, of those with both
    loss_preserve                   of the term of loss.preserve, before its weight
    loss_patches                    of the term of loss.patches, before its weight
    logit_scale, learning_rate      at that step
    logit_bias                      of the sigmoid loss
    gradient_norm
    text_tokens                     in the texts, padding aside
    padding                         share of the text tower's slots that hold no token
    image_tokens, image_padding     the same of images of any shape (model.image.resolution=native)

Of all steps since the row before, or since the start:

    pairs_per_second                evaluation, checkpoints and the like left out, as in the next four
    tflops_useful                   TFLOP/s of a device (lrsclip_jax.flops): the arithmetic of tokens that are there,
    tflops_executed                 and all that is done, with padding and what is computed again
    mfu                             the useful FLOP/s over the chip's bfloat16 peak (lrsclip_jax.chips), if it is known
    data_wait                       share of the time that the loop waited for a batch
    ms/PART, share/PART             milliseconds a step, and share of all time, of each part of the loop's time
                                    (lrsclip_jax.run.progress) that took any

Rows of an evaluation have eval/SET/… (lrsclip_jax.heldout), that before the first step as step 0. The last field of
every row is its checksum, `crc32` (eval.seals). A line that is damaged is named and stays in the file, and all others
count; rows of older versions have no checksum.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import NamedTuple

from etils import epath

from eval.seals import parse_sealed, seal
from lrsclip_jax.errors import InputError
from lrsclip_jax.run.growing_file import GrowingFile
from lrsclip_jax.run.trackers import Tracker

NAME = "metrics.jsonl"
Row = dict[str, int | float]
# A sealed row of which the line end alone is damaged.
_OPEN_END = re.compile(rb'("crc32": "[0-9a-f]{8}"\})[^\n](?=\{|\Z)')


class MetricWriter:
    """Appends rows of metrics to `metrics.jsonl`, and hands them to trackers; one process of a run writes.

    Rows after `step` (written by a run that was killed after its last checkpoint) are dropped first, so that the
    file reads as if there had been no interruption. Damaged lines between the rows that stay are named, and stay too.
    """

    def __init__(self, workdir: epath.Path, step: int, trackers: Sequence[Tracker] = ()):
        kept = _kept(_lines(workdir), step)
        self._file = GrowingFile(workdir / NAME, b"".join(line.text + b"\n" for line in kept))
        self._trackers = trackers

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Adds one row, {"step": step, **metrics}; InputError where that can't be."""
        self._file.add(seal(json.dumps({"step": step, **metrics})).encode() + b"\n")
        for tracker in self._trackers:
            tracker.write(step, metrics)

    def close(self) -> None:
        """Ends the run of each tracker."""
        for tracker in self._trackers:
            tracker.close()


def read_metrics(workdir: epath.PathLike) -> list[Row]:
    """Returns the rows of a run's metrics.jsonl, without a last line that was cut off; a damaged line is named."""
    lines = _lines(epath.Path(workdir))
    _name_damage(lines)
    return [line.row for line in lines if line.row is not None]


def has_scores(workdir: epath.Path, step: int) -> bool:
    """Returns whether a run's metrics.jsonl holds an evaluation of `step`."""
    rows = (line.row for line in _lines(workdir) if line.row and line.row["step"] == step)
    return any(name.startswith("eval/") for row in rows for name in row)


class _Line(NamedTuple):
    """A line of the file, and its row, or what is wrong with it."""

    text: bytes
    row: Row | None
    damage: str = ""


def _lines(workdir: epath.Path) -> list[_Line]:
    path = workdir / NAME
    try:
        data = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}") from None
    *whole, torn = _OPEN_END.sub(rb"\1\n", data).split(b"\n")
    found = [_parsed(text, f"{path}, line {number}") for number, text in enumerate(whole, 1) if text.strip()]
    last = _parsed(torn, "")
    return found if last.row is None else [*found, last]  # a kill may have torn it, or its line end alone


def _parsed(text: bytes, where: str) -> _Line:
    try:
        row: Row = parse_sealed(text, where, Row)
        if not isinstance(row.get("step"), int):
            raise InputError(f"{where}: 'step' is missing or no whole number")
    except InputError as error:
        return _Line(text, None, str(error))
    return _Line(text, row)


def _kept(lines: list[_Line], step: int) -> list[_Line]:
    """The lines of the steps up to `step`. Damaged ones are named; they are of the steps around them."""
    later = next((n for n, line in enumerate(lines) if line.row and line.row["step"] > step), len(lines))
    kept = [line for n, line in enumerate(lines) if (line.row["step"] <= step if line.row else n < later)]
    _name_damage(kept)
    return kept


def _name_damage(lines: list[_Line]) -> None:
    for line in lines:
        if line.row is None:
            print(f"note: {line.damage}; the line stays, and is left out", file=sys.stderr)
