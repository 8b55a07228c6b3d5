"""The largest global batch with the exact loss on one device: `python -m benchmarks.largest_batch --model=vitb16`."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

import jax

from benchmarks.jax_step import build, peak
from benchmarks.programs import Job, batch_of
from eval.command import command_line
from lrsclip_jax.errors import InputError, cli
from lrsclip_jax.run.startup import machine
from lrsclip_jax.sharding import to_devices
from lrsclip_jax.weights import build_model, initial_parameters

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
    print("| pairs | microbatches | s | pairs/s | next to the first | FLOP/s next to the first | memory |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    pairs, first = options.microbatch, None
    while options.up_to is None or pairs <= options.up_to:
        try:
            seconds, memory, executed = measure(Job(options.model, pairs), options)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            print(f"| {pairs:,} | {pairs // options.microbatch} | does not fit | | | | |")
            break
        rates = pairs / seconds, executed
        first = first or rates
        cells = f"{seconds:.3g} | {rates[0]:,.3g} | {rates[0] / first[0]:.2f} | {rates[1] / first[1]:.2f}"
        print(f"| {pairs:,} | {pairs // options.microbatch} | {cells} | {memory / 2**30:.1f} GiB |", flush=True)
        pairs *= 2


def measure(job: Job, options: argparse.Namespace) -> tuple[float, int, float]:
    """Returns the seconds of a step, the bytes on the device at its peak, and the TFLOP/s that it executes."""
    keys = {"model.init": "random", "data.packed": True, "loss.form": options.form, "loss.chunk": options.chunk}
    keys["train.microbatches"] = job.pairs // options.microbatch
    config = job.config(tuple(f"{key}={value}" for key, value in keys.items()))
    model = build_model(config)
    built = build(config, *initial_parameters(model, config))
    state = built.first_state()
    batch = batch_of(config, job.images(model.image.size), *job.texts(0, model.text.end_token))
    batch = to_devices(batch, built.mesh)
    program = built.step.lower(state, batch).compile()
    seconds = []
    for _ in range(1 + options.steps):  # the first warms up
        begun = time.perf_counter()
        state, metrics = jax.block_until_ready(program(state, batch))
        seconds.append(time.perf_counter() - begun)
    if not metrics["finite"]:
        raise RuntimeError(f"the loss of {job.pairs} pairs is not finite")
    median, slots = statistics.median(seconds[1:]), built.throughput.slots(batch)
    return median, peak(program), built.throughput.rates(1, median, slots, slots)["tflops_executed"]


if __name__ == "__main__":
    cli(main)
