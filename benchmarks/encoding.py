"""Products in 8-bit integers next to bfloat16, alone and in the towers that encode: `python -m benchmarks.encoding`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.programs import Job
from benchmarks.tables import Row, markdown, spread
from eval.command import command_line, whole_number
from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING
from lrsclip_jax.errors import cli
from lrsclip_jax.models.clip import init_params
from lrsclip_jax.models.pixels import normalise
from lrsclip_jax.models.precision import dot_general
from lrsclip_jax.weights import build_model

_DESCRIPTION = """\
Times a dense layer's product, [rows, width] by [width, 4 × width], and both towers' forward pass, in the dtype of the
device (bfloat16, on a CPU float32) and with model.*.products=int8, in turns. Texts are padded to the context length.
"""
WIDTHS = (512, 768, 1024)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table, a row for each product and each tower."""
    parser = command_line("python -m benchmarks.encoding", _DESCRIPTION)
    parser.add_argument("--model", default="vitb16", help="of the zoo; %(default)s")
    parser.add_argument("--batch", type=whole_number(1), default=256, help="images or texts; %(default)s")
    parser.add_argument("--rounds", type=whole_number(1), default=5, help="%(default)s")
    options = parser.parse_args(arguments)
    print(markdown(list(rows(Job(options.model, options.batch), options.rounds))))


def rows(job: Job, rounds: int, widths: Sequence[int] = WIDTHS) -> Iterator[Row]:
    """Yields a row for each product, of as many rows as the images have patches, and one for each tower."""
    model = build_model(job.config())
    tokens = job.pairs * (model.image.size // model.image.patch) ** 2
    for width in widths:
        yield {"of": f"product [{tokens:,}, {width}] · [{width}, {4 * width}]"} | _compared(
            {kind: _product(kind, tokens, width, model.image.dtype) for kind in ("float", "int8")},
            rounds,
            2 * tokens * 4 * width**2 / 1e12,
            "TOP/s",
        )
    for tower in ("image", "text"):
        yield {"of": f"{job.model}, {tower} tower, forward"} | _compared(
            {kind: _tower(job, tower, kind) for kind in ("float", "int8")}, rounds, job.pairs, f"{tower}s/s"
        )


def _product(kind: str, tokens: int, width: int, dtype: Any) -> Callable[[], jax.Array]:
    x, kernel = (jax.random.normal(jax.random.key(0), shape, dtype) for shape in ((tokens, width), (width, 4 * width)))
    product = jax.jit(lambda x, kernel: (dot_general(kind) or jax.lax.dot_general)(x, kernel, (((1,), (0,)), ((), ()))))
    return lambda: product(x, kernel)


def _tower(job: Job, tower: str, kind: str) -> Callable[[], jax.Array]:
    model = build_model(job.config((f"model.{tower}.products={kind}",)))
    params = jax.jit(lambda: init_params(model, jax.random.key(0)))()
    if tower == "image":
        pixels = jnp.asarray(job.images(model.image.size))
        encode = jax.jit(
            lambda p, x: model.apply({"params": p}, normalise(x, CLIP_PREPROCESSING), method="encode_image")
        )
        return lambda: encode(params, pixels)
    ids = np.full((job.pairs, model.text.context_length), 1, np.int32)
    ids[:, -1] = model.text.end_token
    texts = jnp.asarray(ids)
    encode = jax.jit(lambda params, texts: model.apply({"params": params}, texts, method="encode_text"))
    return lambda: encode(params, texts)


def _compared(ways: dict[str, Callable[[], jax.Array]], rounds: int, amount: float, unit: str) -> Row:
    calls = 1 if jax.default_backend() == "cpu" else 20
    seconds: dict[str, list[float]] = {kind: [] for kind in ways}
    for run in ways.values():
        jax.block_until_ready(run())  # compiles
    for _ in range(rounds):
        for kind, run in ways.items():
            begun = time.perf_counter()
            for _ in range(calls):
                result = run()
            jax.block_until_ready(result)
            seconds[kind].append((time.perf_counter() - begun) / calls)
    ratios = [slow / fast for slow, fast in zip(seconds["float"], seconds["int8"], strict=True)]
    cells = {
        kind: spread(amount / statistics.median(each), amount / max(each), amount / min(each), ",.4g")
        for kind, each in seconds.items()
    }
    return {"in": unit} | cells | {"int8 × float": spread(statistics.median(ratios), min(ratios), max(ratios), ".2f")}


if __name__ == "__main__":
    cli(main)
