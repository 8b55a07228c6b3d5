"""Images of any shape in shared rows, next to a row for each and to squares: `python -m benchmarks.native IMAGES`."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.tables import markdown, spread
from eval.command import command_line
from lrsclip_jax.data.images import SUFFIXES, read_image
from lrsclip_jax.data.native import cut
from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING, preprocess
from lrsclip_jax.errors import InputError, cli
from lrsclip_jax.models import zoo
from lrsclip_jax.models.native import PackedImages, image_rows, packed_images
from lrsclip_jax.models.pixels import normalise

_DESCRIPTION = """\
Times forward and backward pass of an image tower on one batch of crops, whose sides are drawn from --sides pixels,
evenly in their logarithm. "shared rows" are images of any shape as training has them; "a row each" are the same images
at the same scale, each padded to the budget; "squares" are those of the fixed size, which all have the budget's
patches. The programs take turns, and a ratio is that of two programs in the same round.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table, a row for each program."""
    parser = command_line("python -m benchmarks.native", _DESCRIPTION)
    parser.add_argument("images", type=Path, help="a folder of images, at any depth")
    parser.add_argument("--model", default="vits14", help="of the zoo; %(default)s")
    parser.add_argument("--layers", type=int, help="of the tower, in place of the model's")
    parser.add_argument("--size", type=int, default=224, help="side of the square that is the budget; %(default)s")
    parser.add_argument("--sides", type=int, nargs=2, default=(64, 600), help="of the crops; 64 600")
    parser.add_argument("--min-patches", type=int, default=1, help="0: all images fill the budget; %(default)s")
    parser.add_argument("--batch", type=int, default=64, help="images; %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="%(default)s")
    options = parser.parse_args(arguments)
    files = sorted(path for path in options.images.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"{options.images}: no images")
    layers = {"layers": options.layers} if options.layers else {}
    tower = zoo.create(options.model, image={"size": options.size} | layers).image
    squares = CLIP_PREPROCESSING.at(options.size)
    native = squares.native(tower.patch, options.min_patches or None)
    crops = _crops(files, options.batch, *options.sides)
    seen, fixed = ([preprocess(crop, how) for crop in crops] for how in (native, squares))
    lay, grids = image_rows(tower), np.asarray([image.shape[:2] for image in seen]) // tower.patch
    patches = [cut(image, tower.patch) for image in seen]
    alone = lay.shared(patches, grids, options.batch)
    alone["image_span"][:, 0] += np.arange(options.batch) * lay.length  # counted through all rows
    batches = {"shared rows": lay.shared(patches, grids, 1), "a row each": alone, "squares": np.stack(fixed)}
    programs = {name: _program(tower, native, batch) for name, batch in batches.items()}
    ours, theirs = (np.asarray(programs[name]()[1]) for name in ("shared rows", "a row each"))
    seconds = _in_turns(programs, options.rounds)
    tokens = int(lay.tokens(grids).sum())
    print(
        markdown(
            [
                {
                    "program": name,
                    "images": f"{options.batch}",
                    "tokens": f"{_tokens(name, tokens, batches, tower):,}",
                    "slots": f"{_slots(batch, tower):,}",
                    "s a step": spread(*_spread(seconds[name])),
                    "of a row each": spread(*_spread(_ratios(seconds[name], seconds["a row each"])), ".2f"),
                }
                for name, batch in batches.items()
            ]
        )
    )
    print(f"\nlargest difference of a feature, shared rows to a row each: {np.abs(ours - theirs).max():.1e}")


def _crops(files: Sequence[Path], count: int, least: int, most: int) -> list[Any]:
    rng, crops = np.random.default_rng(0), []
    for number in rng.integers(0, len(files), count).tolist():
        image = read_image(files[number])
        sides = np.exp(rng.uniform(np.log(least), np.log(most), 2)).astype(int).tolist()
        width, height = (min(side, whole) for side, whole in zip(sides, image.size, strict=True))
        left, top = int(rng.integers(0, image.width - width + 1)), int(rng.integers(0, image.height - height + 1))
        crops.append(image.crop((left, top, left + width, top + height)))
    return crops


def _program(tower: Any, native: Any, batch: Any) -> Callable[[], tuple[Any, jax.Array]]:
    """The gradient of a sum of the features, and the features."""

    def features(params: Any, batch: Any) -> jax.Array:
        seen: PackedImages | jax.Array
        seen = packed_images(batch, native, 1) if isinstance(batch, dict) else normalise(batch, native.squares())
        found: Any = tower.apply({"params": params}, seen)
        return found.reshape(-1, found.shape[-1])

    def total(params: Any, batch: Any) -> tuple[jax.Array, jax.Array]:
        rows = features(params, batch)
        return jnp.sum(rows * jnp.sin(jnp.arange(rows.size)).reshape(rows.shape)), rows

    square = jnp.zeros((1, tower.size, tower.size, 3))
    params = jax.jit(lambda: tower.init(jax.random.key(0), square)["params"])()
    return functools.partial(jax.jit(jax.grad(total, has_aux=True)), params, jax.device_put(batch))


def _in_turns(programs: dict[str, Callable], rounds: int) -> dict[str, list[float]]:
    for program in programs.values():
        jax.block_until_ready(program())
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            begun = time.perf_counter()
            jax.block_until_ready(program())
            seconds[name].append(time.perf_counter() - begun)
    return seconds


def _slots(batch: Any, tower: Any) -> int:
    if isinstance(batch, dict):
        return int(np.prod(batch["image_segments"].shape))
    return len(batch) * (tower.first_patch + (tower.size // tower.patch) ** 2)


def _tokens(name: str, tokens: int, batches: dict[str, Any], tower: Any) -> int:
    return _slots(batches[name], tower) if name == "squares" else tokens


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return statistics.median(values), min(values), max(values)


if __name__ == "__main__":
    cli(main)
