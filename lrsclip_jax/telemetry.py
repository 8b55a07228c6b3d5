"""What a run tells: metrics.jsonl and TensorBoard files, a progress bar, and where the time went."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator

from etils import epath
from tqdm import tqdm

from lrsclip_jax.config import ConfigDict


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
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text("".join(line + "\n" for line in self._lines))
        temporary.replace(self._path)


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


class Progress:
    """A progress bar on a terminal, a line at every report elsewhere; measures rate and the share of data wait.

    Of the processes of a run one shows it (`shown`), all measure.
    """

    def __init__(self, start: int, total: int, batch_size: int, shown: bool = True):
        self._batch_size = batch_size
        self._shown = shown
        self._bar = tqdm(total=total, initial=start, unit="step", dynamic_ncols=True, disable=None if shown else True)
        self._total = total
        self._since, self._waited, self._outside = (start, time.perf_counter()), 0.0, 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """A context whose time counts as waiting for data."""
        begun = time.perf_counter()
        yield
        self._waited += time.perf_counter() - begun

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """A context whose time (evaluation, a blocking save) does not count as training."""
        begun = time.perf_counter()
        yield
        self._outside += time.perf_counter() - begun

    def step(self) -> None:
        """Says that one more update was dispatched."""
        self._bar.update(1)

    def report(self, step: int, metrics: dict[str, float]) -> dict[str, float]:
        """Shows the `metrics` of update `step` (of them the loss) and returns the rates since the last report."""
        start, begun = self._since
        now = time.perf_counter()
        seconds = max(now - begun - self._outside, 1e-9)
        rate = (step - start) * self._batch_size / seconds
        rates = {"pairs_per_second": rate, "data_wait": self._waited / seconds}
        left = (self._total - step) * self._batch_size / rate
        shown = f"loss {metrics['loss']:.4f}, {rate:.0f} pairs/s, data wait {rates['data_wait']:.0%}"
        if self._shown and self._bar.disable:
            print(f"step {step}/{self._total}: {shown}, {duration(left)} left", file=sys.stderr, flush=True)
        elif self._shown:
            self._bar.set_postfix_str(shown)
        self._since, self._waited, self._outside = (step, now), 0.0, 0.0
        return rates

    def close(self) -> None:
        self._bar.close()


class Laps:
    """Where the time of a start goes: each `end(name)` closes a lap that began with the one before."""

    def __init__(self, begun: float):
        self._last = begun
        self._seconds: dict[str, float] = {}

    def end(self, name: str) -> None:
        now = time.perf_counter()
        self._seconds[name] = self._seconds.get(name, 0.0) + now - self._last
        self._last = now

    def line(self) -> str:
        """Returns "imports 5.1 s, data 0.2 s, …, 12.3 s in all"."""
        laps = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self._seconds.items())
        return f"{laps}; {sum(self._seconds.values()):.1f} s in all"


def cache_compiled_programs(folder: str | None) -> None:
    """Keeps compiled programs in `folder`, so that the next start finds them; JAX_COMPILATION_CACHE_DIR goes before."""
    import jax

    if folder and not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser(folder))
        # By default only what takes a second to compile is kept; a start compiles dozens of smaller programs.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def duration(seconds: float) -> str:
    """Returns seconds as "42 s", "3 min 05 s" or "2 h 07 min"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def machine() -> str:
    """Returns the devices of the run in words, such as "8 × NVIDIA H100" or "1 × cpu (2 cores)"."""
    import jax

    devices = jax.devices()
    cores = f" ({os.cpu_count()} cores)" if devices[0].platform == "cpu" else ""
    return f"{len(devices)} × {devices[0].device_kind}{cores}"


def describe(config: ConfigDict) -> str:
    """Returns the recipe in a few words: model, batch, optimizer, weight of the long text."""
    return (
        f"{config.model.name}, batch {config.batch_size}, {config.optimizer.name} "
        f"{config.optimizer.learning_rate:g}, long weight {config.loss.long_weight}"
    )
