"""Is a restart the same to the bit, and what does it cost on a GPU to be sure: `python -m benchmarks.restart`."""

from __future__ import annotations

import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.programs import OURS, Job
from benchmarks.start import new_process
from benchmarks.tables import Row, markdown, spread
from eval.command import command_line, whole_number
from lrsclip_jax.errors import cli

_DESCRIPTION = """\
Trains --steps steps in one process, which saves its state by Orbax in the middle, and the second half once more in
another, which begins with what was saved: the two states at the end are compared to the bit. Then the same with
XLA_FLAGS=--xla_gpu_deterministic_ops=true, which launch/gpus.sh names, and the time of a step next to that without it.
The whole run command is tested by benchmarks/resume.py on CPU devices.
"""
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


class Half(NamedTuple):
    """What the second half of a run left: a digest of the state, and the seconds of its steps."""

    digest: str
    seconds: list[float]


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table, a row without the option and a row with it."""
    parser = command_line("python -m benchmarks.restart", _DESCRIPTION)
    parser.add_argument("--model", default="vitb16", help="of the zoo; %(default)s")
    parser.add_argument("--batch", type=whole_number(1), default=256, help="pairs a step; %(default)s")
    parser.add_argument("--steps", type=whole_number(4), default=20, help="%(default)s")
    options = parser.parse_args(arguments)
    print(markdown(list(rows(Job(options.model, options.batch), options.steps))))


def rows(job: Job, steps: int) -> Iterator[Row]:
    """Yields a row without the option and one with it."""
    usual = None
    for name, added in (("usual", ""), ("deterministic", DETERMINISTIC)):
        environment = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {added}".strip()}
        with tempfile.TemporaryDirectory() as folder:
            halves = []
            for number in range(2):
                with new_process(environment) as process:
                    halves.append(process.submit(half, job, steps, Path(folder, "state"), number == 1).result())
        uninterrupted, restarted = halves
        seconds = uninterrupted.seconds[1:]  # the first follows the save
        median = statistics.median(seconds)
        usual = usual or median
        yield {
            "programs": name,
            "after a restart": "equal to the bit" if uninterrupted.digest == restarted.digest else "different",
            "s a step": spread(median, min(seconds), max(seconds), ".3g"),
            "× usual": f"{median / usual:.2f}",
        }


def half(job: Job, steps: int, saved: Path, restarted: bool) -> Half:
    """Takes the second half of the steps: after the first half, whose state it saves, or from what was saved."""
    import jax
    import numpy as np
    from orbax.checkpoint import v1 as ocp

    from benchmarks.jax_step import ready

    program, state, batch, _ = ready(job, OURS["packed"])
    if restarted:
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state)
        loaded = ocp.load_checkpointables(saved, {"params": shapes.params, "optimizer": shapes.opt_state})
        done = jax.device_put(np.int32(steps // 2), state.step.sharding)
        state = state.replace(params=loaded["params"], opt_state=loaded["optimizer"], step=done)
    else:
        for _ in range(steps // 2):
            state, _ = program(state, batch)
        ocp.save_checkpointables(saved, {"params": state.params, "optimizer": state.opt_state})
    seconds = []
    for _ in range(steps - steps // 2):
        begun = time.perf_counter()
        state, _ = jax.block_until_ready(program(state, batch))
        seconds.append(time.perf_counter() - begun)
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(state):
        digest.update(np.asarray(leaf).tobytes())
    return Half(digest.hexdigest(), seconds)


if __name__ == "__main__":
    cli(main)
