"""Seconds of a training step with frozen towers in the loop, one from memory, both: `python -m benchmarks.frozen`."""

from __future__ import annotations

import argparse
import contextlib
import statistics
from collections.abc import Sequence

from benchmarks.timed_run import TimedRun
from lrsclip_jax import config as configs
from lrsclip_jax.errors import cli


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frozen", description=__doc__)
    parser.add_argument("--config", required=True, help="a recipe that freezes both towers, see lrsclip train")
    parser.add_argument("--images", required=True, metavar="SET", help="lrsclip embed --features=encoder")
    parser.add_argument("--texts", required=True, metavar="SET", help="… --tower=text")
    parser.add_argument("--rounds", type=int, default=3, help="each form has its turn in each (%(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="of a turn (%(default)s)")
    options, options.overrides = parser.parse_known_args(arguments)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the seconds of a step in turns, the making of its batch included, and its first loss."""
    options = parse(arguments)
    forms = {
        "towers in the loop": (),
        "images from memory": (f"data.image_features={options.images}",),
        "texts from memory": (f"data.text_features={options.texts}",),
        "both from memory": (f"data.image_features={options.images}", f"data.text_features={options.texts}"),
    }
    with contextlib.ExitStack() as stack:
        overrides = configs.overrides_of(options.overrides)
        runs = {
            name: TimedRun(configs.load(options.config, (*overrides, *keys)), stack) for name, keys in forms.items()
        }
        for name in [*runs] * options.rounds:
            runs[name].steps(options.steps)
    base = statistics.median(next(iter(runs.values())).seconds)
    print("| towers | s a step, median (least) | times as fast | loss of the first step |\n|---|---:|---:|---:|")
    for name, run in runs.items():
        middle = statistics.median(run.seconds)
        print(f"| {name} | {middle:.4f} ({min(run.seconds):.4f}) | {base / middle:.1f} | {run.losses[0]:.8f} |")


if __name__ == "__main__":
    cli(main)
