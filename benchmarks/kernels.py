"""The longest kernels of a train step: `python -m benchmarks.kernels --model=vitb16 --batch=256`."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax

from benchmarks.jax_step import ready
from benchmarks.programs import OURS, Job
from benchmarks.tables import Row, markdown
from eval.command import command_line, whole_number
from lrsclip_jax.errors import InputError, cli

_DESCRIPTION = """\
Traces three train steps with JAX's profiler after a warm-up and prints the kernels that take the most time on the
device: of a GPU what ran on its streams, of a TPU its operations, of a CPU the operations of XLA. A share is that of
the time in all kernels of the trace; idle time between them does not count.
"""
STEPS = 3
_NESTS = ("while", "call", "conditional")  # hold operations that are in the trace themselves


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table, a row for each kernel."""
    parser = command_line("python -m benchmarks.kernels", _DESCRIPTION)
    parser.add_argument("--model", default="vitb16", help="of the zoo; %(default)s")
    parser.add_argument("--batch", type=whole_number(1), default=256, help="pairs a step; %(default)s")
    parser.add_argument("--kernels", type=whole_number(1), default=10, help="rows of the table; %(default)s")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        print(markdown(longest(trace(Job(options.model, options.batch), Path(folder)), options.kernels)))


def trace(job: Job, folder: Path) -> Path:
    """Traces STEPS packed steps into `folder` and returns the file, an XSpace."""
    program, state, batch, _ = ready(job, OURS["packed"])
    state, _ = jax.block_until_ready(program(state, batch))
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with jax.profiler.trace(str(folder), profiler_options=options):
        for _ in range(STEPS):
            state, _ = program(state, batch)
        jax.block_until_ready(state)
    return next(folder.rglob("*.xplane.pb"))


def longest(file: Path, count: int) -> list[Row]:
    """Returns a row for each of the `count` kernels with the most time in a trace, and one for the others."""
    times: dict[str, list[float]] = defaultdict(list)
    for name, nanoseconds in kernels(file):
        times[name].append(nanoseconds)
    if not times:
        raise InputError(f"{file} holds no kernels")
    total = sum(map(sum, times.values()))
    ordered = sorted(times, key=lambda name: -sum(times[name]))

    def row(what: str, found: Sequence[float]) -> Row:
        return {
            "kernel": what,
            "ms a step": f"{sum(found) / STEPS / 1e6:,.3g}",
            "share": f"{sum(found) / total:.1%}",
            "times a step": f"{len(found) / STEPS:,.3g}",
        }

    rest = [each for name in ordered[count:] for each in times[name]]
    return [*(row(f"`{name}`", times[name]) for name in ordered[:count]), row(f"{len(ordered[count:])} others", rest)]


def kernels(file: Path) -> Iterator[tuple[str, float]]:
    """Yields name and nanoseconds of every kernel in a trace."""
    planes = list(jax.profiler.ProfileData.from_file(str(file)).planes)
    devices = [plane for plane in planes if plane.name.startswith(("/device:GPU", "/device:TPU"))]
    for plane in devices or [plane for plane in planes if plane.name == "/host:CPU"]:
        lines = list(plane.lines)
        if devices:  # the other lines say the same again, by steps and by modules
            streams = [line for line in lines if line.name.startswith("Stream")]
            lines = streams or [line for line in lines if line.name == "XLA Ops"]
        for event in (event for line in lines for event in line.events):
            if (devices or "hlo_op" in dict(event.stats)) and not event.name.startswith(_NESTS):
                yield event.name.partition(" = ")[0], event.duration_ns


if __name__ == "__main__":
    cli(main)
