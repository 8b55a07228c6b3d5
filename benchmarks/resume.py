"""Is a run that was interrupted the run that was not?

    python -m benchmarks.resume --workdir=DIR [--kills=10] [--seed=0]

Trains a small model on one device without interruption. Then once more, ended by SIGKILL at random moments and started
again each time; what both leave is compared to the bit. Then on 8, 4 and again 8 devices, and in 2, 1 and again 2
processes, changing at SIGTERM; the losses of all steps are compared. CPU devices. Prints a Markdown table; exit status
1 if a promise is broken.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from etils import epath
from orbax.checkpoint import v1 as ocp

from eval.command import command_line
from lrsclip_jax.errors import InputError, cli
from lrsclip_jax.run.progress import CLOCK

STEPS = 120
TOLERANCE = 1e-5  # of the losses on other devices, relative
KEYS = {
    "model.image.layers": 1,
    "model.image.width": 32,
    "model.image.patch": 16,
    "model.text.layers": 1,
    "model.text.width": 32,
    "data.sources": "scenes:80:0",
    "data.long_length": 64,
    "data.short_length": 24,
    "batch_size": 16,
    "epochs": STEPS * 16 / 80,
    "optimizer.warmup_steps": 3,
    "eval.sources": "scenes:24:1",
    "eval.every_steps": 10,  # as a save is: a kill may come between the two
    "eval.batch_size": 16,
    "checkpoint.every_steps": 2,  # a save is nearly always under way
    "log.every_steps": 1,
    "log.tensorboard": False,
}


@dataclass(frozen=True)
class Run:
    """A run that is under way: its processes, the log of process 0, and where in that log this start begins."""

    processes: list[subprocess.Popen]
    log: Path
    begin: int

    def step(self) -> int:
        """The last step that this start has logged, or 0."""
        with self.log.open() as log:
            log.seek(self.begin)
            return max(map(int, re.findall(r"^step (\d+)/", log.read(), re.MULTILINE)), default=0)

    def wait_until(self, condition: Callable[[int], bool]) -> None:
        while not condition(self.step()):
            if any(process.poll() is not None for process in self.processes):
                raise SystemExit(f"a process ended before it was to be interrupted, see {self.log}")
            time.sleep(0.005)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the last process."""
        self.processes[-1].send_signal(number)

    def ends_with(self, status: int) -> None:
        for process in self.processes:
            if process.wait(timeout=600) != status:
                raise SystemExit(f"exit status {process.returncode} instead of {status}, see {self.log}")


def start(workdir: Path, devices: int = 1, processes: int = 1) -> Run:
    """Starts, or continues, the run in `workdir` on `devices` devices of each of `processes` processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    log = workdir.with_suffix(".log")
    begin = log.stat().st_size if log.exists() else 0
    program = [sys.executable, "-m", "lrsclip_jax.main", "--config=configs/quickstart.py", f"--workdir={workdir}"]
    keys = KEYS | {"train.compilation_cache": workdir.parent / "compiled"}
    started = []
    for process in range(processes):
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(devices),
        }
        if processes > 1:
            environment |= {
                "JAX_COORDINATOR_ADDRESS": address,
                "JAX_NUM_PROCESSES": str(processes),
                "JAX_PROCESS_ID": str(process),
            }
        with (log if process == 0 else log.with_suffix(f".{process}.log")).open("a") as output:
            command = [*program, *(f"--config.{key}={value}" for key, value in keys.items())]
            started.append(subprocess.Popen(command, env=environment, stdout=output, stderr=output))
    return Run(started, log, begin)


def whole(workdir: Path) -> float:
    """Trains without interruption; returns the seconds from the first step to the last."""
    run = start(workdir)
    run.wait_until(lambda step: step >= 1)
    begun = time.perf_counter()
    run.wait_until(lambda step: step == STEPS)
    seconds = time.perf_counter() - begun
    run.ends_with(0)
    return seconds


def killed(workdir: Path, moments: np.ndarray) -> tuple[list[int], int]:
    """Trains, killed when the steps have taken so many seconds in all; returns the steps, and how many in a save."""
    steps, saving = [], 0
    for seconds in np.diff(moments, prepend=0):
        run = start(workdir)
        run.wait_until(lambda step: step > 0)
        time.sleep(seconds)
        run.send(signal.SIGKILL)
        run.ends_with(-signal.SIGKILL)
        steps.append(run.step())
        saving += any((workdir / "checkpoints").glob("*-tmp"))
    start(workdir).ends_with(0)
    return steps, saving


def moved(workdir: Path, places: list[dict[str, int]]) -> list[int]:
    """Trains on one place after the other, leaving each at SIGTERM; returns after which steps it was left."""
    steps = []
    for number, place in enumerate(places, start=1):
        run = start(workdir, **place)
        if number < len(places):
            goal = STEPS * number // len(places)
            run.wait_until(lambda step, goal=goal: step >= goal)
            run.send(signal.SIGTERM)
            run.ends_with(128 + signal.SIGTERM)
            steps.append(max(rows(workdir)))
        else:
            run.ends_with(0)
    return steps


def rows(workdir: Path) -> dict[int, dict]:
    """The rows of metrics.jsonl by step, without what the clock has a part in."""
    found: dict[int, dict] = {}
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        found.setdefault(row["step"], {}).update({key: row[key] for key in row if key not in CLOCK})
    return found


def same_state(*workdirs: Path) -> bool:
    """Whether the last checkpoints, parameters and optimizer state, are equal to the bit."""
    a, b = (jax.tree.leaves(last_state(epath.Path(workdir) / "checkpoints" / str(STEPS))) for workdir in workdirs)
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in zip(a, b, strict=True))


def last_state(folder: epath.Path) -> dict:
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    saved = ocp.checkpointables_metadata(folder).metadata
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), saved)
    return ocp.load_checkpointables(folder, shapes)


def difference(workdir: Path, reference: Path) -> float:
    """The largest relative difference of the losses."""
    found, expected = rows(workdir), rows(reference)
    if found.keys() != expected.keys():
        return float("inf")
    return max(abs(found[step]["loss"] / expected[step]["loss"] - 1) for step in expected)


def main() -> int:
    parser = command_line("python -m benchmarks.resume", __doc__.split("\n")[0])
    parser.add_argument("--workdir", required=True, type=Path, help="a new folder for the runs")
    parser.add_argument("--kills", type=int, default=10, help="how often the run is killed (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which it is killed (default: 0)")
    options = parser.parse_args()
    directory = options.workdir.resolve()
    if directory.exists():
        raise InputError(f"--workdir={options.workdir} exists: give a new folder")
    directory.mkdir(parents=True)

    reference = directory / "whole"
    seconds = whole(reference)
    moments = np.sort(np.random.default_rng(options.seed).uniform(0, seconds, options.kills))
    steps, saving = killed(directory / "killed", moments)
    equal_rows = rows(directory / "killed") == rows(reference)
    equal_state = same_state(directory / "killed", reference)
    print(f"\n    python -m benchmarks.resume --workdir=DIR --kills={options.kills} --seed={options.seed}\n")
    print(f"| {STEPS} steps on | interrupted | largest relative difference of a loss | rows | last checkpoint |")
    print("|---|---|---|---|---|")
    print(
        f"| 1 device | SIGKILL after steps {', '.join(map(str, steps))}; {saving} of {len(steps)} during a save "
        f"| {difference(directory / 'killed', reference):.1g} | {_told(equal_rows)} | {_told(equal_state)} |"
    )
    kept = equal_rows and equal_state
    for name, places in (
        ("8 → 4 → 8 devices", [{"devices": 8}, {"devices": 4}, {"devices": 8}]),
        ("2 → 1 → 2 processes", [{"processes": 2}, {"processes": 1}, {"processes": 2}]),
    ):
        workdir = directory / re.sub(r"\W+", "-", name)
        steps = moved(workdir, places)
        largest = difference(workdir, reference)
        print(f"| {name} | SIGTERM, saved after steps {', '.join(map(str, steps))} | {largest:.1e} | | |", flush=True)
        kept = kept and largest <= TOLERANCE
    return 0 if kept else 1


def _told(equal: bool) -> str:
    return "equal to the bit" if equal else "**different**"


if __name__ == "__main__":
    cli(main)
