"""What 8-bit integer products do to a run's loss: `python -m benchmarks.quantised --workdir=DIR`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eval.command import command_line
from lrsclip_jax import config as configs
from lrsclip_jax.errors import InputError, cli
from lrsclip_jax.run.metrics import read_metrics

_DESCRIPTION = """\
Trains a recipe twice, with the dense layers of both towers in the towers' dtype and in 8-bit integers, from the same
weights with the same batches, and prints both curves of the loss: the mean of each tenth of the run, and what was
scored on held-out sets at its end. DIR/float and DIR/int8 are whole runs, each with its report.html; the same command
continues where it was stopped. The dtype is bfloat16 on an accelerator and float32 on a CPU.
"""
PRODUCTS = ("float", "int8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table."""
    parser = command_line(
        "python -m benchmarks.quantised", _DESCRIPTION, usage="--workdir=DIR [--config=FILE.py] [--config.KEY=VALUE …]"
    )
    parser.add_argument("--workdir", type=Path, required=True, help="of both runs")
    parser.add_argument("--config", default="configs/quickstart.py", help="the recipe; %(default)s")
    options, rest = parser.parse_known_args(arguments)
    configs.load(options.config, configs.overrides_of(rest))  # its errors come before any training
    for products in PRODUCTS:
        _train(options, products, rest)
    print(table({products: read_metrics(options.workdir / products) for products in PRODUCTS}))


def table(runs: dict[str, list[dict]]) -> str:
    """Returns Markdown of the metrics of runs by name: losses by tenths, then the scores at the end."""
    rows = {name: {row["step"]: row["loss"] for row in metrics if "loss" in row} for name, metrics in runs.items()}
    first, *others = rows.values()
    if any(each.keys() != first.keys() for each in others):
        raise InputError("the runs have not logged the same steps")
    steps = list(first)
    lines = [f"| steps | {' | '.join(rows)} |", "|---|" + "---:|" * len(rows)]
    for part in np.array_split(steps, min(10, len(steps))):
        means = [np.mean([losses[step] for step in part]) for losses in rows.values()]
        lines.append(f"| {part[0]} to {part[-1]} | {' | '.join(f'{mean:.4f}' for mean in means)} |")
    last = {name: {key: value for row in metrics for key, value in row.items()} for name, metrics in runs.items()}
    for key in next(iter(last.values())):
        if key.startswith("eval/") and key.endswith("/mean_recall"):
            lines.append(f"| {key} | {' | '.join(f'{scores[key]:.2f}' for scores in last.values())} |")
    return "\n".join(lines)


def _train(options: argparse.Namespace, products: str, overrides: Sequence[str]) -> None:
    keys = {"model.image.products": products, "model.text.products": products, "log.every_steps": 1}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "lrsclip_jax.main", f"--config={options.config}"),
            f"--workdir={options.workdir / products}",
            *overrides,
            *(f"--config.{key}={value}" for key, value in keys.items()),
        ],
        env=os.environ,
        stdout=sys.stderr,
    )
    if done.returncode:
        raise InputError(f"the run with products={products} failed, see above")


if __name__ == "__main__":
    cli(main)
