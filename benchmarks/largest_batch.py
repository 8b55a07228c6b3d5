"""The largest global batch with the exact loss on one device: `python -m benchmarks.largest_batch --model=vitb16`."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax

from benchmarks.jax_step import peak, ready
from benchmarks.programs import Job
from benchmarks.tables import Row, markdown, spread
from eval.command import command_line
from lrsclip_jax.errors import InputError, cli
from lrsclip_jax.run.startup import machine

_DESCRIPTION = """\
Doubles the global batch from --microbatch on until the device's memory refuses, and times whole train steps: the
towers take --microbatch pairs at a time, all pairs are each other's negatives, and the gradient is that of the whole
batch. Texts are packed, of lengths as in LRS2M; the weights are random.

"FLOP/s" counts what the devices execute, so the second forward pass of accumulation and what the form of the loss
repeats; its ratio to the first row tells what a large batch costs beyond that.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table, a row for each batch."""
    parser = command_line("python -m benchmarks.largest_batch", _DESCRIPTION)
    parser.add_argument("--model", default="vitb16", help="of the zoo; %(default)s")
    parser.add_argument("--microbatch", type=int, default=512, help="pairs in the towers at a time; %(default)s")
    parser.add_argument("--up-to", type=int, help="pairs; needed on a CPU, whose memory does not refuse in time")
    parser.add_argument("--form", choices=("gather", "ring", "full"), default="gather", help="of the loss; %(default)s")
    parser.add_argument("--chunk", type=int, default=1024, help="rows of logits at a time; %(default)s")
    parser.add_argument("--steps", type=int, default=3, help="timed for each batch; %(default)s")
    options = parser.parse_args(arguments)
    if min(options.microbatch, options.steps) < 1 or options.chunk < 0:
        raise InputError("--microbatch and --steps must be positive, --chunk not negative")
    if options.up_to is None and jax.default_backend() == "cpu":
        raise InputError("on a CPU --up-to=PAIRS must say where to end")
    if options.up_to is not None and options.up_to < options.microbatch:
        raise InputError(f"--up-to={options.up_to} is less than one microbatch of {options.microbatch}")

    print(f"{options.model} on {machine().split(' × ', 1)[1]}, loss {options.form} in blocks of {options.chunk}\n")
    way = Way(options.microbatch, options.form, options.chunk, options.steps)
    rows: list[Row] = []
    first = None
    for found in grown(Job(options.model, options.microbatch), way, options.up_to):
        rows.append(row(found, first, way))
        first = first or found
        print(f"{options.model}, {rows[-1]['pairs']} pairs: {rows[-1]['s']} s", file=sys.stderr)
    print(markdown(rows))


@dataclass(frozen=True)
class Way:
    """How a batch is computed: pairs in the towers at a time, form and chunk of the loss, steps that are timed."""

    microbatch: int
    form: str = "gather"
    chunk: int = 1024
    steps: int = 3


class Measured(NamedTuple):
    """A batch that fits: seconds of each step, bytes on the device at the peak, TFLOP/s that are executed."""

    pairs: int
    seconds: list[float]
    memory: int
    executed: float


def grown(first: Job, way: Way, up_to: int | None = None, growth: int = 2) -> Iterator[Measured | int]:
    """Yields what is measured of each batch, `growth` times as large each time, and last the pairs that don't fit."""
    job = first
    while up_to is None or job.pairs <= up_to:
        try:
            yield measure(job, way)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            yield job.pairs
            return
        job = replace(job, pairs=growth * job.pairs)


def row(found: Measured | int, first: Measured | None, way: Way) -> Row:
    """Returns the row of a batch, from `grown`, next to the first that fits."""
    pairs = found if isinstance(found, int) else found.pairs
    told = {"pairs": f"{pairs:,}", "microbatches": str(pairs // way.microbatch)}
    if isinstance(found, int):
        return told | {"s": "does not fit"}
    seconds = statistics.median(found.seconds)
    rate, first = pairs / seconds, first or found
    return told | {
        "s": spread(seconds, min(found.seconds), max(found.seconds), ".3g"),
        "pairs/s": f"{rate:,.4g}",
        "next to the first": f"{rate / first.pairs * statistics.median(first.seconds):.2f}",
        "FLOP/s next to the first": f"{found.executed / first.executed:.2f}",
        "memory": f"{found.memory / 2**30:.1f} GiB",
    }


def measure(job: Job, way: Way) -> Measured:
    """Times whole steps with one batch; raises JaxRuntimeError where the device has too little memory."""
    keys = {"data.packed": True, "loss.form": way.form, "loss.chunk": way.chunk}
    keys["train.microbatches"] = job.pairs // way.microbatch
    program, state, batch, built = ready(job, [f"{key}={value}" for key, value in keys.items()])
    seconds = []
    for _ in range(1 + way.steps):  # the first warms up
        begun = time.perf_counter()
        state, metrics = jax.block_until_ready(program(state, batch))
        seconds.append(time.perf_counter() - begun)
    if not metrics["finite"]:
        raise RuntimeError(f"the loss of {job.pairs} pairs is not finite")
    slots = built.throughput.slots(batch)
    executed = built.throughput.rates(1, statistics.median(seconds[1:]), slots, slots)["tflops_executed"]
    return Measured(job.pairs, seconds[1:], peak(program), executed)


if __name__ == "__main__":
    cli(main)
