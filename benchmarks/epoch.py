"""How long the paper's run takes here: `python -m benchmarks.epoch --data=SET --workdir=DIR`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.lengths import table_i
from benchmarks.programs import RECIPE
from benchmarks.tables import Row, markdown
from eval.command import command_line
from lrsclip_jax import chips, flops
from lrsclip_jax import config as configs
from lrsclip_jax import main as training
from lrsclip_jax.data.batches import mixture
from lrsclip_jax.errors import InputError, cli
from lrsclip_jax.plan.lrs2m_lengths import LONGEST
from lrsclip_jax.run.metrics import read_metrics
from lrsclip_jax.run.startup import machine
from lrsclip_jax.weights import build_model

_DESCRIPTION = """\
Trains --steps steps of the recipe on a prepared set, whose images are decoded as they go, with the command that trains,
and extrapolates from its metrics.jsonl: hours for one epoch of LRS2M's pairs on this device, and the share of the time
in which it waited for data. The rows of the first tenth of the steps, which compile and fill the queues, do not count.

Next to it stands the time of LRSCLIP's machine, eight RTX 3090, at that share of their peak (arXiv 2503.19311, V-A: one
epoch, 8 × 3090), with both texts padded to 248 tokens as its code does. The paper names no hours.
"""

GPUS, GPU = 8, "RTX-3090"
EFFICIENCY = 0.4  # of the peak; arithmetic, not measured


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, then prints a Markdown table."""
    parser = command_line("python -m benchmarks.epoch", _DESCRIPTION)
    parser.add_argument("--data", required=True, help="a prepared set with long and short texts")
    parser.add_argument("--workdir", required=True, help="a new folder for the run")
    parser.add_argument("--steps", type=int, default=200, help="%(default)s")
    options, rest = parser.parse_known_args(arguments)
    if options.steps < 20:
        raise InputError("--steps must be at least 20: the first tenth does not count")
    if Path(options.workdir).exists():
        raise InputError(f"{options.workdir} exists already; the run needs a new folder")
    metrics, config = train(options.data, options.workdir, options.steps, configs.overrides_of(rest))
    print(f"\n{table(metrics, config, machine())}")


def train(
    data: str, workdir: str, steps: int, overrides: Sequence[str]
) -> tuple[list[dict[str, float]], configs.ConfigDict]:
    """Trains the recipe for `steps` steps on a prepared set; returns the rows of its metrics.jsonl and its config."""
    own = [f"data.sources={data}", "model.init=random", f"log.every_steps={steps // 20}", *overrides]
    config = configs.load(RECIPE, own)
    samples = sum(len(source) for source, _ in mixture.open_sources(config))
    epochs = (steps + 0.5) * config.batch_size / samples  # the half keeps rounding from costing a step
    keys = [f"--config.{key}" for key in (*own, f"epochs={epochs!r}")]
    training.main([f"--config={RECIPE}", f"--workdir={workdir}", *keys])
    return read_metrics(workdir), config


def table(metrics: Sequence[Mapping[str, float]], config: configs.ConfigDict, device: str) -> str:
    """Returns what the rows of a metrics.jsonl say about an epoch of LRS2M, next to the paper's machine: Markdown."""
    steps = max(row["step"] for row in metrics)
    return (
        f"{config.model.name}, batches of {config.batch_size}, {steps} steps; one epoch of "
        f"{table_i().stated['pairs']:,} pairs:\n\n{markdown(rows(metrics, config, device))}"
    )


def rows(metrics: Sequence[Mapping[str, float]], config: configs.ConfigDict, device: str) -> list[Row]:
    """Returns the rows of the table: what was measured, then the paper's machine."""
    steps = max(row["step"] for row in metrics)
    counted = [row for row in metrics if "pairs_per_second" in row and row["step"] > steps / 10]
    rate = statistics.median(row["pairs_per_second"] for row in counted)
    waited = statistics.mean(row["data_wait"] for row in counted)
    chip = chips.named(GPU)
    work = flops.train_pair(build_model(config, "cpu"), (LONGEST, LONGEST), batch_size=config.batch_size)
    work = (work.forward + work.backward).executed  # the reference computes nothing again
    theirs = f"{GPUS} × {chip.name}, arithmetic: {{}} at {EFFICIENCY:.0%} of the peak"
    return [
        _row(f"{device}, measured", rate) | {"data wait": f"{waited:.1%}"},
        _row(theirs.format("float32"), GPUS * EFFICIENCY * chip.float32 / work),
        _row(theirs.format("bfloat16"), GPUS * EFFICIENCY * chip.flops / work),
    ]


def _row(who: str, rate: float) -> dict[str, str]:
    return {"": who, "pairs/s": f"{rate:,.3g}", "hours": f"{table_i().stated['pairs'] / rate / 3600:.3g}"}


if __name__ == "__main__":
    cli(main)
