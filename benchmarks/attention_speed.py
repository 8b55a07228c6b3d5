"""Ways to compute attention side by side: `python -m benchmarks.attention_speed`."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from lrsclip_jax.errors import InputError, cli
from lrsclip_jax.models.attention import attention, mask_kind

_DESCRIPTION = """\
Times attention forward and backward, as a block with rematerialisation runs it (forward, then forward again and
backward), in every way that this device has: plain products through XLA, cuDNN's fused kernel on a GPU, splash
attention on a TPU. The shapes are those of the zoo. The ways take turns; a ratio is that of two times in the same
round. Each must agree with plain products first. On an accelerator it ends with the entries of MEASURED in
lrsclip_jax/models/attention.py, by which attention="auto" chooses: ways that are at least 5 % faster than XLA.
"""


class Shape(NamedTuple):
    """What attention is given: tokens of which tower, how many heads of width 64, and what is seen."""

    what: str
    tokens: int
    heads: int
    causal: bool = False
    segments: str = ""  # "padded", "packed" or none


SHAPES = (
    Shape("image B/32 at 224", 50, 12),
    Shape("image B/16 at 224", 197, 12),
    Shape("image L/14 at 224", 257, 16),
    Shape("image L/14 at 336", 577, 16),
    Shape("text, short", 77, 8, causal=True),
    Shape("text, long", 248, 8, causal=True),
    Shape("text, packed", 256, 8, causal=True, segments="packed"),
    Shape("BERT, long", 248, 12, segments="padded"),
    Shape("BERT, packed", 256, 12, segments="packed"),
)
_WIDTH = 64
_FASTER = 1.05


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table, or JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attention_speed",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
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
    """Times every way that this device has for every shape; raises RuntimeError if two do not agree."""
    device = jax.devices()[0]
    fused = {"gpu": ["cudnn"], "tpu": ["splash"]}.get(device.platform, [])
    dtype = jnp.bfloat16 if fused else jnp.float32
    found = []
    for shape in tqdm(shapes, unit="shape", disable=None, leave=False):
        inputs = _inputs(shape, rows, dtype)
        programs, results = {}, {}
        for way in ["xla", *fused]:
            programs[way] = _program(shape, way)
            try:
                results[way] = programs[way](*inputs)
            except InputError as error:
                print(f"{shape.what}: {error}", file=sys.stderr)
                del programs[way]
        _check_agreement(shape, results)
        seconds: dict[str, list[float]] = {way: [] for way in programs}
        for _ in range(rounds):
            for way, program in programs.items():
                seconds[way].append(_seconds(program, inputs, 1 if device.platform == "cpu" else 20))
        found.append(
            shape._asdict()
            | {
                "mask": mask_kind(shape.causal, inputs[-1]),
                "seconds": {way: statistics.median(times) for way, times in seconds.items()},
                "times_faster": {
                    way: statistics.median(x / t for x, t in zip(seconds["xla"], times, strict=True))
                    for way, times in seconds.items()
                },
            }
        )
    return {
        "device": device.device_kind,
        "jax": jax.__version__,
        "platform_version": device.client.platform_version.splitlines()[0],
        "dtype": dtype.dtype.name,
        "rows": rows,
        "rounds": rounds,
        "shapes": found,
    }


def table(result: dict[str, Any]) -> str:
    """Returns the result as Markdown, and below it the entries of MEASURED, if there are any."""
    ways = list(dict.fromkeys(way for shape in result["shapes"] for way in shape["seconds"]))
    lines = [
        f"{result['device']}, jax {result['jax']}, {result['platform_version']}, {result['dtype']}, "
        f"{result['rows']} rows, median of {result['rounds']} rounds; ×: times as fast as xla",
        "",
        "| attention | tokens | heads | mask | " + " | ".join(f"{way}, ms" for way in ways) + " |",
        "|---|---:|---:|---|" + "---:|" * len(ways),
    ]
    entries = []
    for shape in result["shapes"]:
        times = [
            f"{shape['seconds'][way] * 1e3:.3g} ({shape['times_faster'][way]:.2f}×)" if way in shape["seconds"] else ""
            for way in ways
        ]
        cells = [shape["what"], str(shape["tokens"]), str(shape["heads"]), shape["mask"], *times]
        lines.append(f"| {' | '.join(cells)} |")
        best = max(shape["times_faster"], key=shape["times_faster"].get)
        if shape["times_faster"][best] >= _FASTER:
            key = (result["device"], result["dtype"], shape["mask"], shape["tokens"])
            entries.append(f"    {key!r}: {best!r},".replace("'", '"'))
    return "\n".join([*lines, "", *entries]).strip()


def _inputs(shape: Shape, rows: int, dtype: Any) -> tuple:
    """Queries, keys, values, the gradient of what they become, and segments or None."""
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(4, rows, shape.tokens, shape.heads, _WIDTH)).astype(np.float32)
    segments = None
    if shape.segments == "padded":  # LRS2M's captions: 111 tokens of 248
        lengths = rng.normal(0.45 * shape.tokens, 0.1 * shape.tokens, rows).clip(8, shape.tokens).astype(int)
        segments = jnp.asarray(np.arange(shape.tokens) < lengths[:, None])
        drawn[3] *= np.asarray(segments)[:, :, None, None]
    elif shape.segments == "packed":
        starts = np.sort(rng.integers(1, shape.tokens, (rows, 2)), axis=1)
        segments = jnp.asarray(1 + (np.arange(shape.tokens) >= starts[:, :, None]).sum(axis=1), jnp.int32)
    return *(jnp.asarray(each, dtype) for each in drawn), segments


def _program(shape: Shape, way: str) -> Callable:
    @jax.jit
    def both(q: jax.Array, k: jax.Array, v: jax.Array, gradient: jax.Array, segments: jax.Array | None) -> tuple:
        out, backward = jax.vjp(
            jax.checkpoint(lambda q, k, v: attention(q, k, v, shape.causal, segments, way)), q, k, v
        )
        return out, *backward(gradient)

    return both


def _check_agreement(shape: Shape, results: dict[str, tuple]) -> None:
    for way, result in results.items():
        for ours, plain in zip(result[1:], results["xla"][1:], strict=True):
            ours, plain = (np.asarray(each, np.float32) for each in (ours, plain))
            if not np.abs(ours - plain).max() <= 0.03 * np.abs(plain).max():
                raise RuntimeError(f"{way} and xla do not compute the same for {shape.what}")


def _seconds(program: Callable, inputs: tuple, calls: int) -> float:
    begun = time.perf_counter()
    for _ in range(calls):
        result = program(*inputs)
    jax.block_until_ready(result)
    return (time.perf_counter() - begun) / calls


if __name__ == "__main__":
    cli(main)
