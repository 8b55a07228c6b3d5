"""A run's progress: a bar or lines for a person, where the time of the loop goes, and the figures that follow."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager

from tqdm import tqdm

from lrsclip_jax.flops import Texts
from lrsclip_jax.run.throughput import Throughput

PARTS = ("data_wait", "host", "device", "checkpoint", "evaluation", "compile", "profile")
TRAINING = ("data_wait", "host", "device")  # the others interrupt it

# The names in a row of metrics.jsonl that two runs of one config do not share: what the clock says, and the checksum.
CLOCK = ("pairs_per_second", "tflops_useful", "tflops_executed", "mfu", "data_wait", "crc32") + tuple(
    f"{unit}/{part}" for unit in ("ms", "share") for part in PARTS
)


class Clock:
    """Tells apart where the loop spends its time.

    The time of a context `spent(part)` belongs to that part, all other time to "host": dispatching the steps, and
    Python. The devices work on while the host does; "device" is the time that the host waits for them, so that where
    they are the bottleneck it is nearly all.
    """

    def __init__(self) -> None:
        self._begin()

    @contextlib.contextmanager
    def spent(self, part: str) -> Iterator[None]:
        """A context whose time belongs to `part`, one of PARTS; they do not nest."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[part] += time.perf_counter() - begun

    def lap(self) -> dict[str, float]:
        """Returns the seconds since the last call by part, and starts again from zero."""
        seconds, since = self._seconds, self._since
        self._begin()
        return seconds | {"host": self._since - since - sum(seconds.values())}

    def _begin(self) -> None:
        self._since = time.perf_counter()
        self._seconds = dict.fromkeys(PARTS, 0.0)


class Progress:
    """A progress bar on a terminal, a line at every report elsewhere; measures where the time goes and the rates.

    All processes of a run measure; one of them shows it (`shown`).
    """

    def __init__(self, start: int, total: int, throughput: Throughput, shown: bool = True):
        self._throughput = throughput
        self._shown = shown
        self._bar = tqdm(total=total, initial=start, unit="step", dynamic_ncols=True, disable=None if shown else True)
        self._total = total
        self._clock = Clock()
        self._since, self._texts, self._slots = start, Texts(), Texts()
        self._images: tuple[Texts, Texts] | None = None

    def spent(self, part: str) -> AbstractContextManager[None]:
        """A context whose time belongs to `part` of the loop, one of PARTS."""
        return self._clock.spent(part)

    def dispatched(self) -> None:
        """Counts one more update that is on its way."""
        self._bar.update(1)

    def done(self, texts: Texts, slots: Texts, images: tuple[Texts, Texts] | None = None) -> None:
        """Counts the texts of an update that is done, and the slots for them; of images of any shape both as well."""
        self._texts += texts
        self._slots += slots
        if images:
            counted, computed = self._images or (Texts(), Texts())
            self._images = counted + images[0], computed + images[1]

    def report(self, step: int, metrics: dict[str, float]) -> dict[str, float]:
        """Shows the `metrics` of update `step` (of them the loss) and returns the figures since the last report."""
        spent, steps = self._clock.lap(), step - self._since
        seconds = sum(spent[part] for part in TRAINING)
        figures = self._throughput.rates(steps, seconds, self._texts, self._slots, self._images)
        figures["data_wait"] = spent["data_wait"] / seconds
        figures |= {f"ms/{part}": 1000 * time / steps for part, time in spent.items() if time}
        figures |= {f"share/{part}": time / sum(spent.values()) for part, time in spent.items() if time}
        self._show(step, metrics["loss"], figures)
        self._since, self._texts, self._slots, self._images = step, Texts(), Texts(), None
        return figures

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()

    def _show(self, step: int, loss: float, figures: dict[str, float]) -> None:
        rate = figures["pairs_per_second"]
        speed = f"{figures['mfu']:.0%} MFU" if "mfu" in figures else f"{figures['tflops_useful']:.3g} TFLOP/s"
        shown = f"loss {loss:.4f}, {rate:.0f} pairs/s, {speed}, data wait {figures['data_wait']:.0%}"
        if self._shown and self._bar.disable:
            left = (self._total - step) * self._throughput.batch_size / rate
            print(f"step {step}/{self._total}: {shown}, {duration(left)} left", file=sys.stderr, flush=True)
        elif self._shown:
            self._bar.set_postfix_str(shown)


def duration(seconds: float) -> str:
    """Returns seconds as "42 s", "3 min 05 s" or "2 h 07 min"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
