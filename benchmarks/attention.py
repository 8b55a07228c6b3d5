"""Ways to compute attention side by side: `python -m benchmarks.attention`."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from benchmarks.tables import Row, markdown
from eval.command import command_line
from lrsclip_jax.errors import InputError, cli
from lrsclip_jax.models.attention import offered, way
from lrsclip_jax.models.attention_choice import Case, timed

_DESCRIPTION = """\
Times attention forward and backward, as a block with rematerialisation runs it (forward, then forward again and
backward), in every way that this device has: plain products through XLA, cuDNN's fused kernel on a GPU, two
kernels on a TPU. The shapes are those of the zoo. The ways take turns; a ratio is that of two times in the same
round. Each must agree with plain products first. attention="auto" takes the same times by itself, of its own shapes.
"""


class Shape(NamedTuple):
    """What attention is given: tokens of which tower, what is seen, and how many heads of width 64."""

    what: str
    mask: str
    tokens: int
    heads: int


SHAPES = (
    Shape("image B/32 at 224", "full", 50, 12),
    Shape("image B/16 at 224", "full", 197, 12),
    Shape("image L/14 at 224", "full", 257, 16),
    Shape("image L/14 at 336", "full", 577, 16),
    Shape("text, short", "causal", 77, 8),
    Shape("text, long", "causal", 248, 8),
    Shape("text, packed", "packed causal", 256, 8),
    Shape("BERT, long", "padded", 248, 12),
    Shape("BERT, packed", "packed", 256, 12),
)
_WIDTH = 64


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table, or JSON."""
    parser = command_line("python -m benchmarks.attention", _DESCRIPTION)
    parser.add_argument("--rows", type=int, help="in a batch; 4 on a CPU, else 256")
    parser.add_argument("--rounds", type=int, default=10, help="%(default)s")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    rows = options.rows or (4 if jax.default_backend() == "cpu" else 256)
    if min(rows, options.rounds) < 1:
        raise InputError("--rows and --rounds must be positive")
    result = measure(SHAPES, rows, options.rounds)
    print(json.dumps(result, indent=2) if options.json else table(result))


def measure(shapes: Sequence[Shape], rows: int, rounds: int) -> dict[str, Any]:
    """Times every way that this device has for every shape; those that can't run are left out, with a line."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "jax": jax.__version__,
        "platform_version": device.client.platform_version.splitlines()[0],
        "dtype": _dtype(),
        "rows": rows,
        "rounds": rounds,
        "shapes": [compared(shape, rows, rounds) for shape in shapes],
    }


def compared(shape: Shape, rows: int, rounds: int) -> dict[str, Any]:
    """Returns the median seconds of every way for one shape, and how many times as fast as XLA it is."""
    refused: dict[str, str] = {}
    ways = {name: way(name, "causal" in shape.mask) for name in offered(jax.default_backend(), _dtype())}
    seconds = timed(Case(shape.mask, _dtype(), rows, shape.tokens, shape.heads, _WIDTH), ways, refused, rounds)
    for name, reason in refused.items():
        print(f"{shape.what}: {name}: {reason}", file=sys.stderr)
    ratios = {
        name: statistics.median(x / t for x, t in zip(seconds["xla"], times, strict=True))
        for name, times in seconds.items()
        if "xla" in seconds
    }
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return shape._asdict() | {"seconds": medians, "times_faster": ratios}


def _dtype() -> str:
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def table(result: dict[str, Any]) -> str:
    """Returns the result as Markdown."""
    told = (
        f"{result['device']}, jax {result['jax']}, {result['platform_version']}, {result['dtype']}, "
        f"{result['rows']} rows, median of {result['rounds']} rounds; ×: times as fast as xla"
    )
    return f"{told}\n\n{markdown([row(shape) for shape in result['shapes']])}"


def row(shape: dict[str, Any]) -> Row:
    """Returns the row of a shape, from `compared`."""
    about = {"attention": shape["what"]} | {key: str(shape[key]) for key in ("tokens", "heads", "mask")}
    return about | {
        f"{name}, ms": f"{seconds * 1e3:.3g}"
        + (f" ({shape['times_faster'][name]:.2f}×)" if name in shape["times_faster"] else "")
        for name, seconds in shape["seconds"].items()
    }


if __name__ == "__main__":
    cli(main)
