"""Seconds of a training step of each method of adaptation, in turns: `python -m benchmarks.adapters DATA`.

The methods are those of the study rsclip_baselines, and LoRA with dropout, which computes its product apart.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Sequence

import jax

from benchmarks.timed_run import TimedRun
from eval.command import command_line, whole_number
from lrsclip_jax import config as configs
from lrsclip_jax.errors import cli
from lrsclip_jax.studies import study_file
from lrsclip_jax.studies.trainings import planned

_DROPOUT = ((".*/(query|value)", "lora", 8, 8.0, 0.1),)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_line("python -m benchmarks.adapters", "Prints the table of benchmarks/README.md.", "")
    parser.add_argument("data", metavar="DATA", help="as in configs/aid_minilm.py, with the run DATA/heads")
    parser.add_argument("--batch-size", type=whole_number(1, 2**24), default=32, help="pairs of a step (%(default)s)")
    parser.add_argument("--rounds", type=whole_number(1, 100), default=3, help="turns of each (%(default)s)")
    parser.add_argument("--steps", type=whole_number(1, 1000), default=3, help="of a turn (%(default)s)")
    options = parser.parse_args(arguments)
    name, study = study_file.load(f"rsclip_baselines:aid:{options.data}")
    cells = planned(name, study, name, [f"batch_size={options.batch_size}"], seeds=1).cells
    forms = {cell.variant.name: cell.training.config for cell in cells}
    lora = next(cell.training for cell in cells if cell.variant.name == "LoRA")
    with contextlib.ExitStack() as stack:
        forms["LoRA, dropout 0.1"] = configs.load(lora.recipe, (*lora.overrides, f"model.adapt={_DROPOUT!r}"))
        runs = {name: TimedRun(config, stack) for name, config in forms.items()}
        for name in [*runs] * options.rounds:
            runs[name].steps(options.steps)
    base = statistics.median(runs[study.base].seconds)
    print("| | optimizer state | s a step, median (least) | of full tuning's |\n|---|---:|---:|---:|")
    for name, run in runs.items():
        held = sum(leaf.nbytes for leaf in jax.tree.leaves(run.state.opt_state))
        middle = statistics.median(run.seconds)
        print(f"| {name} | {held / 1e6:.1f} MB | {middle:.3f} ({min(run.seconds):.3f}) | {middle / base:.2f} |")


if __name__ == "__main__":
    cli(main)
