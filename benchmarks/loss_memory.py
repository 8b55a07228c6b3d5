"""What each form of the loss costs on a device: bytes, what it sends, and with --time how long a step takes.

Run as `python -m benchmarks.loss_memory`.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import re
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp

from benchmarks.tables import Row, markdown, spread
from eval.command import command_line
from lrsclip_jax import config, losses, sharding
from lrsclip_jax.errors import cli
from lrsclip_jax.plan.hlo import collectives

LOSSES = ("info_nce", "sigmoid")
FORMS = ("full", "gather", "gather:1024", "gather:256", "ring", "ring:256")
SIZES, WIDTH = ((8, 32_768), (64, 65_536)), 768
TIMED_SIZES, TIMED_WIDTH = ((8, 4_096),), 256

_DESCRIPTION = """\
Prints a Markdown table of what the loss and its gradient cost on a device, for every form of either loss.

The step is that of the loss alone: float32 features of images, long texts and short texts go in, split by rows over
the devices, their gradients and that of the logit scale come out. Features and gradients take the same memory in every
form. What differs is what the compiled program holds next to them, its temporaries, and that is in the table, with
the collectives that one execution performs and the bytes that a device sends for them.

The devices are simulated on the CPU, each number of them in a process of its own. Programs are compiled and not run,
so that sizes far beyond this machine's memory can be asked for. The bytes are the word of XLA's CPU compiler; those of
an accelerator differ in detail."""

_TIMES = """\
with --time the programs are run on random features. Every execution of a form stands next to one of info_nce's "full",
or of the form that --beside names, and the ratio of the two is taken, because other work on the machine slows both; a
form next to itself shows the noise that is left. Simulated devices share this machine's cores and memory: the ratio
tells what a form computes, not what it costs to send.

examples:
  python -m benchmarks.loss_memory --sizes 64x65536 --forms ring ring:256
  python -m benchmarks.loss_memory --time
  python -m benchmarks.loss_memory --time --forms ring --beside ring"""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the options, with `sizes` as (devices, pairs) and `forms` as (form, chunk)."""
    parser = command_line("python -m benchmarks.loss_memory", _DESCRIPTION, _TIMES)
    parser.add_argument(
        "--sizes",
        nargs="+",
        metavar="DEVICESxPAIRS",
        type=_size,
        help="global batches, and over how many devices they are split (8x32768 64x65536; with --time 8x4096)",
    )
    parser.add_argument(
        "--forms",
        nargs="+",
        metavar="FORM[:CHUNK]",
        type=_form,
        default=[_form(form) for form in FORMS],
        help=f"loss.form and loss.chunk, rows of logits at a time; without a chunk all at once ({' '.join(FORMS)})",
    )
    parser.add_argument(
        "--losses", nargs="+", choices=LOSSES, default=[*LOSSES], help=f"loss.name ({' '.join(LOSSES)})"
    )
    parser.add_argument(
        "--beside",
        metavar="FORM[:CHUNK]",
        type=_form,
        default=("full", 0),
        help="the form of info_nce with which times are compared (full)",
    )
    parser.add_argument("--width", type=_positive, help=f"of the features ({WIDTH}; with --time {TIMED_WIDTH})")
    parser.add_argument("--time", action="store_true", help="measure times instead of bytes")
    parser.add_argument("--rounds", type=_positive, default=9, help="executions of each form with --time (%(default)s)")
    options = parser.parse_args(arguments)
    options.sizes = options.sizes or (TIMED_SIZES if options.time else SIZES)
    options.width = options.width or (TIMED_WIDTH if options.time else WIDTH)
    return options


def _positive(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    if not (found := re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not DEVICESxPAIRS, such as 8x32768")
    return int(found[1]), int(found[2])


def _form(text: str) -> tuple[str, int]:
    if not re.fullmatch(r"full|(gather|ring)(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not full, gather, gather:CHUNK, ring or ring:CHUNK")
    form, _, chunk = text.partition(":")
    return form, int(chunk or 0)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    cells = partial(times, rounds=options.rounds, beside=options.beside) if options.time else bytes_and_collectives
    found = []
    for devices, pairs in options.sizes:
        # The number of devices is fixed once JAX has started them.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _simulate, (devices,)) as process:
            for loss, (form, chunk) in itertools.product(options.losses, options.forms):
                row = {"devices": str(devices), "pairs": f"{pairs:,}", "loss": loss, "form": form}
                row["chunk"] = str(chunk or "all")
                found.append(row | process.submit(cells, form, chunk, pairs, options.width, loss=loss).result())
                print(f"{len(found)}: {' '.join(row.values())}", file=sys.stderr)
    print(markdown(found))


def _simulate(devices: int) -> None:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)


def bytes_and_collectives(form: str, chunk: int, pairs: int, width: int, loss: str = "info_nce") -> Row:
    """Returns the last cells of a row: temporaries and what is sent, MiB on a device, and the collectives."""
    program = _compiled(loss, form, chunk, pairs, width)
    sent = collectives(program.as_text())
    counts = ", ".join(f"{'' if one.exact else '≥ '}{one.count} {one.kind}" for one in sent)
    temporaries = program.memory_analysis().temp_size_in_bytes
    return {
        "temporaries, MiB a device": f"{temporaries / 2**20:,.1f}",
        "sent, MiB a device": f"{sum(one.bytes for one in sent) / 2**20:,.1f}",
        "collectives": counts or "none",
    }


def times(
    form: str,
    chunk: int,
    pairs: int,
    width: int,
    rounds: int,
    loss: str = "info_nce",
    beside: tuple[str, int] = ("full", 0),
) -> Row:
    """Returns the last cells of a row: milliseconds of info_nce in the form `beside`, of this form, and the ratio."""
    shapes = _shapes(pairs, width)
    features = jax.random.normal(jax.random.key(0), (3, pairs, width))
    features /= jnp.linalg.norm(features, axis=-1, keepdims=True)
    has_text = jnp.ones(pairs, bool)
    logits = jnp.float32(100.0), jnp.float32(-10.0)
    where = jax.tree.map(lambda shape: shape.sharding, shapes)
    inputs = jax.device_put(((*features,), logits, has_text, has_text), where)
    programs = [_compiled("info_nce", *beside, pairs, width), _compiled(loss, form, chunk, pairs, width)]
    for program in programs:
        jax.block_until_ready(program(*inputs))
    other, this = zip(*([_milliseconds(program, inputs) for program in programs] for _ in range(rounds)), strict=True)
    ratios = [mine / theirs for mine, theirs in zip(this, other, strict=True)]
    return {
        "beside it, ms": f"{statistics.median(other):,.3g}",
        "this form, ms": spread(statistics.median(this), min(this), max(this)),
        "ratio": spread(statistics.median(ratios), min(ratios), max(ratios), ".2f"),
    }


def _milliseconds(program: jax.stages.Compiled, inputs: tuple) -> float:
    start = time.perf_counter()
    jax.block_until_ready(program(*inputs))
    return 1e3 * (time.perf_counter() - start)


def _compiled(name: str, form: str, chunk: int, pairs: int, width: int) -> jax.stages.Compiled:
    """The loss and its gradient by features and by logit scale and bias, compiled for all devices."""
    shapes = _shapes(pairs, width)
    mesh = shapes[0][0].sharding.mesh

    options = losses.LossOptions(long_weight=0.8, form=form, chunk=chunk, name=name)

    def loss(features, logits, has_long, has_short):
        (image, long, short), (logit_scale, logit_bias) = features, logits
        texts = {"long": losses.Texts(long, has_long), "short": losses.Texts(short, has_short)}
        return losses.dual_loss(image, texts, logit_scale, options, logit_bias=logit_bias, mesh=mesh)[0]

    where = jax.tree.map(lambda shape: shape.sharding, shapes[:2])
    step = jax.jit(jax.value_and_grad(loss, (0, 1)), out_shardings=(sharding.replicated(mesh), where))
    return step.lower(*shapes).compile()


def _shapes(pairs: int, width: int) -> tuple:
    """Of the inputs, with where they lie: three features, logit scale and bias, and which pairs have which text."""
    mesh = sharding.make_mesh(config.defaults().mesh)
    rows = sharding.batch_sharded(mesh)
    sharding.check_divides("--sizes: the number of pairs", pairs, mesh)
    features = jax.ShapeDtypeStruct((pairs, width), jnp.float32, sharding=rows)
    has_text = jax.ShapeDtypeStruct((pairs,), bool, sharding=rows)
    scalar = jax.ShapeDtypeStruct((), jnp.float32, sharding=sharding.replicated(mesh))
    return (features,) * 3, (scalar, scalar), has_text, has_text


if __name__ == "__main__":
    cli(main)
