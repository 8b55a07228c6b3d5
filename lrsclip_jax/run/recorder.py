"""The recorder: keeps the metrics of the steps under way, reads them late, and writes what they say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax

from lrsclip_jax.flops import Texts
from lrsclip_jax.run.metrics import MetricWriter
from lrsclip_jax.run.nonfinite import Guard
from lrsclip_jax.run.progress import Progress
from lrsclip_jax.run.throughput import Batch, Throughput


class Slots(NamedTuple):
    """The slots that the towers compute for a batch; for images that are all squares none are counted."""

    texts: Texts
    images: Texts | None


class Recorder:
    """Writes a row of metrics every few steps, and stops the run at a step that was not finite.

    To read a metric is to wait for its step. So metrics are kept unread, and read together when the next step is
    dispatched already: the devices never wait for the host.
    """

    def __init__(
        self,
        writer: MetricWriter | None,
        progress: Progress,
        throughput: Throughput,
        guard: Guard,
        *,
        every_steps: int,
        total_steps: int,
    ):
        """Begins without metrics to read.

        Args:
          writer: of the rows; None in all processes of a run but one.
          progress: to which the time of waiting belongs, and which shows the rates.
          throughput: counts the texts of a step and the slots for them.
          guard: judges steps that were not finite.
          every_steps: from one row to the next.
          total_steps: of the run; the last one has a row, too.
        """
        self._writer = writer
        self._progress = progress
        self._throughput = throughput
        self._guard = guard
        self._every_steps = every_steps
        self._total_steps = total_steps
        self._unread: list[tuple[int, Slots, dict[str, jax.Array]]] = []

    def next_batch(self, batches: Iterator[Batch]) -> Batch:
        """Returns the next batch; the time until it comes counts as waiting for data."""
        with self._progress.spent("data_wait"):
            return next(batches)

    def add(self, step: int, batch: Batch, metrics: dict[str, jax.Array]) -> None:
        """Adds the metrics of a step that was just dispatched, and reads those before it if a row is due.

        It returns once the step before is done: the host is never far ahead of the devices.
        """
        self.wait_for(self._unread[-1:])
        if self._unread and self._unread[-1][0] % self._every_steps == 0:
            self.read()
        slots = Slots(self._throughput.slots(batch), self._throughput.image_slots(batch))
        self._unread.append((step, slots, metrics))
        self._progress.dispatched()

    def wait_for(self, results: Any) -> None:
        """Waits until the devices have computed `results`."""
        with self._progress.spent("device"):
            jax.block_until_ready(results)

    def read(self) -> None:
        """Reads the metrics of all steps so far: afterwards these are known to be done, and to be finite.

        Raises:
          NotFinite: a step was not finite, and no more may be skipped.
        """
        unread, self._unread = self._unread, []
        with self._progress.spent("device"):
            found = [(step, slots, jax.device_get(metrics)) for step, slots, metrics in unread]
        for step, slots, metrics in found:
            self._record(step, slots, {name: value.item() for name, value in metrics.items()})

    @contextlib.contextmanager
    def aside(self, part: str) -> Iterator[None]:
        """A context for `part` of the loop's time (lrsclip_jax.run.progress.PARTS) in which no step is trained.

        All steps so far are read first: they do not end within another part of the time, and a state that is saved or
        scored in this context is known to be finite.
        """
        self.read()
        with self._progress.spent(part):
            yield

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes a row of metrics, in the process that writes."""
        if self._writer and values:
            self._writer.write(step, dict(values))

    def close(self) -> None:
        """Ends what is shown of the progress, and the runs of trackers."""
        self._progress.close()
        if self._writer:
            self._writer.close()

    def _record(self, step: int, slots: Slots, values: dict[str, float]) -> None:
        skipped, squares = int(values.pop("skipped")), values.pop("text_squares")
        texts, images = self._throughput.texts(values["text_tokens"], squares), None
        padding = {"padding": 1 - texts.tokens / slots.texts.tokens}
        if slots.images:
            counted = Texts(slots.images.count, values["image_tokens"], values.pop("image_squares"))
            padding["image_padding"] = 1 - counted.tokens / slots.images.tokens
            images = counted, slots.images
        self._progress.done(texts, slots.texts, images)
        if not values.pop("finite"):
            self._guard.report(step, values, skipped)
        elif step % self._every_steps == 0 or step == self._total_steps:
            self.write(step, values | padding | self._progress.report(step, values))
