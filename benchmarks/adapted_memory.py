"""The largest batch of full tuning and of LoRA on one device. Run as `python -m benchmarks.adapted_memory`.

Memory is linear in the batch, all else equal: each row is two runs of `lrsclip plan`, at two batches, and the line
through them says how many pairs fit. Each run takes one to several minutes and needs libtpu.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

from eval.command import command_line
from lrsclip_jax.chips import GIB
from lrsclip_jax.errors import InputError, cli

_DENSE = ("--config.model.image.remat=dense", "--config.model.text.remat=dense")
_FULL = "--config.model.adapt=()"

# Name of a row, and the arguments of its plan; `lora_24gb` has LoRA 8 and remat=full.
ROWS = {
    "b16-full": ("lora_24gb:b16", _FULL, *_DENSE),
    "b16-full-remat": ("lora_24gb:b16", _FULL),
    "b16-lora": ("lora_24gb:b16", *_DENSE),
    "b16-lora-remat": ("lora_24gb:b16",),
    "l14-full": ("lora_24gb:l14", _FULL, *_DENSE),
    "l14-full-remat": ("lora_24gb:l14", _FULL),
    "l14-lora": ("lora_24gb:l14", *_DENSE),
    "l14-lora-remat": ("lora_24gb:l14",),
}
BATCHES = {"b16": (256, 768), "l14": (64, 256)}  # between which the line is drawn
CHIPS = {"24 GB": 24 * GIB, "80 GB": 80 * GIB}
_STEP = 16  # batches are multiples of it


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_line("python -m benchmarks.adapted_memory", "Prints the table of benchmarks/README.md.", "")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"rows to plan (all): {', '.join(ROWS)}")
    names = parser.parse_args(arguments).rows or list(ROWS)
    if unknown := [name for name in names if name not in ROWS]:
        raise InputError(f"no row {unknown[0]}: choose from {', '.join(ROWS)}")
    print("| row | trained | without a batch | a pair | " + " | ".join(CHIPS) + " |")
    print("|---|---|---|---|" + "---|" * len(CHIPS))
    for name in names:
        small, large = BATCHES[name[:3]]
        first, second = (_planned(name, batch) for batch in (small, large))
        peaks = [planned["memory"]["peak"] for planned in (first, second)]
        pair = (peaks[1] - peaks[0]) / (large - small)
        fixed = peaks[0] - small * pair
        most = [max(0, int((memory - fixed) / pair) // _STEP * _STEP) for memory in CHIPS.values()]
        facts = (
            f"{first['trained'] / 1e6:.1f} M",
            f"{fixed / GIB:.2f} GiB",
            f"{pair / 2**20:.1f} MiB",
        )
        print(f"| `{name}` | " + " | ".join([*facts, *(f"{pairs:,}" for pairs in most)]) + " |", flush=True)


def _planned(name: str, batch: int) -> dict:
    recipe, *flags = ROWS[name]
    program = [sys.executable, "-m", "lrsclip_jax", "plan", f"--config={recipe}", "--topology=v5p:1x1x1", "--json"]
    done = subprocess.run(
        [*program, f"--config.batch_size={batch}", "--memory=80GiB", *flags], stdout=subprocess.PIPE, text=True
    )
    if done.returncode not in (0, 1):  # 1: it does not fit
        raise InputError(f"row {name} failed with exit status {done.returncode}")
    return json.loads(done.stdout)


if __name__ == "__main__":
    cli(main)
