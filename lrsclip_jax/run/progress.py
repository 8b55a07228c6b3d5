"""A run's progress: a bar or lines for a person, and the figures that depend on the clock."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager

from tqdm import tqdm

from lrsclip_jax.flops import Texts
from lrsclip_jax.run.clock import PARTS, TRAINING, Clock
from lrsclip_jax.run.throughput import Throughput
from lrsclip_jax.run.words import duration

# The names in a row of metrics.jsonl that two runs of one config do not share.
CLOCK = ("pairs_per_second", "tflops_useful", "tflops_executed", "mfu", "data_wait") + tuple(
    f"{unit}/{part}" for unit in ("ms", "share") for part in PARTS
)


class Progress:
    """A progress bar on a terminal, a line at every report elsewhere; measures where the time goes and what it gives.

    Of the processes of a run one shows it (`shown`), all measure.
    """

    def __init__(self, start: int, total: int, throughput: Throughput, shown: bool = True):
        self._throughput = throughput
        self._shown = shown
        self._bar = tqdm(total=total, initial=start, unit="step", dynamic_ncols=True, disable=None if shown else True)
        self._total = total
        self._clock = Clock()
        self._since, self._texts, self._slots = start, Texts(), Texts()

    def spent(self, part: str) -> AbstractContextManager[None]:
        """A context whose time is that of a part of the loop, see lrsclip_jax.run.clock."""
        return self._clock.spent(part)

    def dispatched(self) -> None:
        """Says that one more update is on its way."""
        self._bar.update(1)

    def done(self, texts: Texts, slots: Texts) -> None:
        """Says what an update that is done had in texts, and in slots for them."""
        self._texts += texts
        self._slots += slots

    def report(self, step: int, metrics: dict[str, float]) -> dict[str, float]:
        """Shows the `metrics` of update `step` (of them the loss) and returns the figures since the last report."""
        spent, steps = self._clock.lap(), step - self._since
        seconds = sum(spent[part] for part in TRAINING)
        figures = self._throughput.rates(steps, seconds, self._texts, self._slots)
        figures["data_wait"] = spent["data_wait"] / seconds
        figures |= {f"ms/{part}": 1000 * time / steps for part, time in spent.items() if time}
        figures |= {f"share/{part}": time / sum(spent.values()) for part, time in spent.items() if time}
        self._show(step, metrics["loss"], figures)
        self._since, self._texts, self._slots = step, Texts(), Texts()
        return figures

    def close(self) -> None:
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
