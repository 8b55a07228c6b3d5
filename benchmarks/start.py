"""How long a start takes, with an empty and then a filled compilation cache: `python -m benchmarks.start`."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor

from benchmarks.programs import OURS, Job
from benchmarks.tables import Row, markdown
from eval.command import command_line, whole_number
from lrsclip_jax.errors import cli

_DESCRIPTION = """\
Starts a process that builds the train step of a model and takes two steps, and starts it once more: the first with an
empty cache of compiled programs, the second with what the first has left. Its batch is drawn in memory.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table, a row for each start."""
    parser = command_line("python -m benchmarks.start", _DESCRIPTION)
    parser.add_argument("--model", default="vitb16", help="of the zoo; %(default)s")
    parser.add_argument("--batch", type=whole_number(1), default=256, help="pairs a step; %(default)s")
    options = parser.parse_args(arguments)
    print(markdown(list(rows(Job(options.model, options.batch)))))


def rows(job: Job) -> Iterator[Row]:
    """Yields the row of a first start and then that of a second."""
    with tempfile.TemporaryDirectory() as cache:
        keep = {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}
        for start in ("first", "second"):
            begun = time.perf_counter()
            with new_process(keep) as process:
                laps = process.submit(start_once, job).result()
            laps["in all"] = time.perf_counter() - begun
            yield {"start": start} | {name: f"{seconds:.1f} s" for name, seconds in laps.items()}


def new_process(environment: Mapping[str, str]) -> ProcessPoolExecutor:
    """Returns a process that has not imported JAX, for a function that does; `environment` is added to this one's."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin, (dict(environment),))


def _begin(environment: dict[str, str]) -> None:
    os.environ |= environment


def start_once(job: Job) -> dict[str, float]:
    """Returns the seconds of each lap of a start in this process."""
    laps: dict[str, float] = {}
    begun = time.perf_counter()

    def lap(name: str) -> None:
        laps[name] = time.perf_counter() - begun - sum(laps.values())

    import jax

    from benchmarks.jax_step import ready

    lap("imports")
    jax.devices()
    lap("devices")
    program, state, batch, _ = ready(job, OURS["packed"], lap)
    for name in ("first step", "second step"):
        state, _ = jax.block_until_ready(program(state, batch))
        lap(name)
    return laps


if __name__ == "__main__":
    cli(main)
