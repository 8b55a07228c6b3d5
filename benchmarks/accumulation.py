"""What a batch of 32,768 pairs needs with and without microbatches: `python -m benchmarks.accumulation`."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence

import jax
import numpy as np

from eval.command import command_line
from lrsclip_jax import config as configs
from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING
from lrsclip_jax.errors import InputError, cli
from lrsclip_jax.models.clip import init_params
from lrsclip_jax.setup import RunLength, set_up
from lrsclip_jax.sharding import to_devices
from lrsclip_jax.step import initial_state

_DESCRIPTION = """\
Compiles the train step of the quickstart's model for one batch, whole and in microbatches, on this machine's device,
prints the temporaries that the compiler counts, and runs one step of those that fit: seconds, and the process's peak.
The loss is "gather" with blocks of 1,024 rows throughout, the gradient that of the whole batch. Keys of the config,
--config.KEY=VALUE, make the model another one.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table, one row for each number of microbatches."""
    parser = command_line("python -m benchmarks.accumulation", _DESCRIPTION)
    parser.add_argument("--batch", type=int, default=32_768, help="pairs; 32768")
    parser.add_argument("--microbatches", type=int, nargs="+", default=[128, 32, 1], help="128 32 1")
    parser.add_argument("--memory", type=float, default=12.0, help="GiB of temporaries up to which a step is run; 12")
    parser.add_argument("--offload", action="store_true", help="keep the images in host memory")
    options, rest = parser.parse_known_args(arguments)
    keys = [*configs.overrides_of(rest), *(["train.offload=images"] if options.offload else [])]
    if min(options.batch, *options.microbatches) < 1:
        raise InputError("--batch and --microbatches must be positive")
    print("| microbatches | temporaries | a step | peak of the process | loss |\n|---:|---:|---:|---:|---:|")
    for count in options.microbatches:
        print(_row(options.batch, count, options.memory, keys), flush=True)


def _row(pairs: int, microbatches: int, memory: float, keys: Sequence[str]) -> str:
    config = configs.load("configs/quickstart.py", [f"batch_size={pairs}", f"train.microbatches={microbatches}", *keys])
    setup = set_up(config, RunLength(100, 100), devices=jax.devices()[:1])
    model = setup.model
    step = setup.step(CLIP_PREPROCESSING).lower(setup.shapes, setup.batch_specs()).compile()
    temporaries = step.memory_analysis().temp_size_in_bytes / 2**30
    row = f"| {microbatches} | {temporaries:.2f} GiB"
    if temporaries > memory:
        return f"{row} | not run | | |"
    params = jax.jit(lambda: init_params(model, jax.random.key(0)))()
    state = initial_state(params, setup.optimizer, setup.shapes)
    host = _batch(pairs, config.data.long_length, config.data.short_length, model)
    batch = to_devices(host, setup.mesh, offloaded=setup.layout.offloaded)
    begun = time.perf_counter()
    _, metrics = jax.block_until_ready(step(state, batch))
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # so far: the rows rise
    return f"{row} | {seconds:.0f} s | {peak:.2f} GiB | {float(metrics['loss']):.6f} |"


def _batch(pairs: int, long: int, short: int, model) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)

    def texts(length: int) -> np.ndarray:
        ids = rng.integers(1, model.text.end_token - 1, (pairs, length), dtype=np.int32)
        ids[:, -1] = model.text.end_token
        return ids

    size = model.image.size
    present = np.ones(pairs, bool)
    return {
        "image": rng.integers(0, 256, (pairs, size, size, 3), np.uint8),
        "long": texts(long),
        "short": texts(short),
        "has_long": present,
        "has_short": present,
    }


if __name__ == "__main__":
    cli(main)
