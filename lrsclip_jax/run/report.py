"""A run's report.html: curves, the held-out tables, queries with their five best images."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from etils import epath

from eval.html import elements, galleries, plots
from eval.html.frame import page, provenance
from eval.html.retrieval_table import recall_table
from eval.whole import write_text
from lrsclip_jax import heldout
from lrsclip_jax.config import ConfigDict
from lrsclip_jax.data.batches.mixture import weighted
from lrsclip_jax.heldout import HeldOutReport
from lrsclip_jax.run.forgetting import scores_before, sentences
from lrsclip_jax.run.metrics import read_metrics
from lrsclip_jax.run.progress import duration
from lrsclip_jax.run.startup import machine
from lrsclip_jax.run.workdir import CONFIG, METRICS

_POINTS = 300  # of a curve; more would swell the page and show nothing
_PARTS = {  # the names of run.progress.PARTS
    "data_wait": "waiting for a batch",
    "host": "dispatching steps, Python",
    "device": "waiting for the devices",
    "checkpoint": "checkpoints, as far as they hold it up",
    "evaluation": "evaluation",
    "compile": "compiling",
    "profile": "profiling",
}
_LOSSES = {
    "loss": "total",
    "loss_long": "long text",
    "loss_short": "short text",
    "loss_text_pca": "text PCA",
    "loss_rising": "long above short",
    "loss_hard_negatives": "hard negatives",
    "loss_preserve": "preservation",
    "loss_patches": "patches",
}


@dataclass(frozen=True)
class Facts:
    """The facts of the summary: title, recipe and data in words, pairs a step, seconds it took, machine.

    `provenance` is as `eval.html.frame` has it, `files` are those of the run's folder that the report links.
    """

    title: str
    recipe: str
    data: str
    batch_size: int
    seconds: float
    machine: str
    provenance: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[str] = ()


def conclude(config: ConfigDict, run: epath.Path, tables: Sequence[heldout.Table], seconds: float) -> None:
    """Prints the tables of the last evaluation, and writes the report of a run that took `seconds`."""
    metrics = read_metrics(run)
    before = scores_before(metrics)
    for table in tables:
        print("\n".join(heldout.lines(table, before)))
    devices = machine()
    done = max((row["step"] for row in metrics), default=0)
    start = [source for source in (config.model.init, config.model.image_init, config.model.text_init) if source]
    origin = {"Checkpoint": f"{run}/checkpoints/{done}", "Initial weights": ", ".join(start), "Seed": f"{config.seed}"}
    facts = Facts(
        title=f"{run.name}: {config.model.name}",
        recipe=describe(config),
        data=", ".join(name.rsplit("/", 1)[-1] for name, _ in weighted(config.data.sources)),
        batch_size=config.batch_size,
        seconds=seconds,
        machine=devices,
        provenance=provenance(origin, devices),
        files=(METRICS, CONFIG),
    )
    written = write_report(run, facts, metrics, [heldout.for_report(table, before) for table in tables])
    print(f"report: {written}")


def write_report(
    workdir: epath.PathLike, facts: Facts, metrics: Sequence[Mapping], held_out: Sequence[HeldOutReport]
) -> epath.Path:
    """Writes `report.html` into the run's folder, whole or not at all, and returns its path.

    Args:
      workdir: the run's folder.
      facts: for the summary.
      metrics: rows of metrics.jsonl, {"step": …, "loss": …, …}; a curve has no point where a row lacks its key.
      held_out: the sets of the last evaluation.

    Raises:
      InputError: the file can't be written.
    """
    path = epath.Path(workdir) / "report.html"
    write_text(path, compose(facts, metrics, held_out))
    return path


def compose(facts: Facts, metrics: Sequence[Mapping], held_out: Sequence[HeldOutReport]) -> str:
    """Returns the report as one self-contained HTML document; arguments as for `write_report`."""
    figures = _figures(metrics, held_out)
    sections = [("Training", plots.side_by_side(figures))] if figures else []
    if any("ms/host" in row for row in metrics):
        sections.append(("Where the time went", _time(metrics)))
    if fallen := sentences(metrics):
        sections.append(("Forgetting", elements.join(*map(elements.paragraph, fallen))))
    for held in held_out:
        remarks = "\n".join(elements.paragraph(remark) for remark in held.remarks)
        chance = {name: row for name, row in held.results.items() if name.startswith("chance")}
        measured = {name: row for name, row in held.results.items() if name not in chance}
        table = recall_table(measured, chance)
        sections.append((f"Retrieval on {held.name}", elements.Html(f"{remarks}\n{table}")))
        if held.queries:
            heading = "Queries and their five best images" + (f", {held.name}" if len(held_out) > 1 else "")
            sections.append((heading, galleries.gallery(held.queries)))
    return page(facts.title, sections, _summary(facts, metrics), facts.provenance, facts.files)


def describe(config: ConfigDict) -> str:
    """Returns the recipe in a few words: model, batch, optimizer, weight of the long text."""
    return (
        f"{config.model.name}, batch {config.batch_size}, {config.optimizer.name} "
        f"{config.optimizer.learning_rate:g}, long weight {config.loss.long_weight}"
    )


def _summary(facts: Facts, metrics: Sequence[Mapping]) -> str:
    steps = max((row["step"] for row in metrics), default=0)
    rates = [row["pairs_per_second"] for row in metrics if "pairs_per_second" in row]
    rate = f", {np.median(rates):,.0f} pairs/s" if rates else ""
    return (
        f"{facts.recipe}; trained on {facts.data}: {steps:,} steps of {facts.batch_size:,} pairs "
        f"in {duration(facts.seconds)}{rate}, on {facts.machine}."
    )


def _time(metrics: Sequence[Mapping]) -> elements.Html:
    """A step's mean time by the parts of the loop, and in a sentence what a device did in it."""
    rows = [row for row in metrics if "ms/host" in row]
    steps = np.diff([row["step"] for row in rows], prepend=0)
    mean = {part: np.average([row.get(f"ms/{part}", 0.0) for row in rows], weights=steps) for part in _PARTS}
    table = elements.table(
        [[_PARTS[part], time, 100 * time / sum(mean.values())] for part, time in mean.items() if time],
        ["", "ms a step", "%"],
        "Mean of all steps. The start of the run and its last evaluation are not in it.",
    )
    useful, executed, padding = (
        np.median([row[name] for row in rows]) for name in ("tflops_useful", "tflops_executed", "padding")
    )
    mfu = [row["mfu"] for row in rows if "mfu" in row]
    said = (
        f"In the median a device did {executed:.3g} TFLOP/s, of which {useful:.3g} were useful"
        f"{f' (MFU {np.median(mfu):.1%})' if mfu else ''}; {padding:.1%} of the text tower's slots were padding."
    )
    return elements.join(table, elements.paragraph(said))


def _figures(metrics: Sequence[Mapping], held_out: Sequence[HeldOutReport]) -> list[elements.Html]:
    losses: dict[str, tuple] = {name: _curve(metrics, key) for key, name in _LOSSES.items()}
    drawn = [("Loss", losses)]
    for held in held_out:
        of_set = f" on {held.name}" if len(held_out) > 1 else ""
        drawn.append((f"Held-out mean recall{of_set}, %", _recall_curves(metrics, held)))
    drawn.append(("Learning rate", {"learning rate": _curve(metrics, "learning_rate")}))
    drawn.append(("Throughput, pairs/s", {"throughput": _curve(metrics, "pairs_per_second")}))
    figures = []
    for title, curves in drawn:
        measured = {name: curve for name, curve in curves.items() if len(curve[0])}
        if measured:
            figures.append(plots.line_plot(measured, "step", "", title))
    return figures


def _recall_curves(metrics: Sequence[Mapping], held: HeldOutReport) -> dict[str, tuple]:
    named = re.compile(f"eval/{re.escape(held.name)}/(.+)/mean_recall")
    names = {key: match[1] for row in metrics for key in row if (match := named.fullmatch(key))}
    curves: dict[str, tuple] = {name: _curve(metrics, key) for key, name in names.items()}
    steps = [step for x, _ in curves.values() for step in x]
    others = (name for name in held.results if name not in curves and not name.endswith(heldout.BEFORE))
    levels = {name: held.results[name]["mean_recall"] for name in others}
    if steps:
        curves |= {name: ([min(steps), max(steps)], [level] * 2) for name, level in levels.items()}
    return curves


def _curve(metrics: Sequence[Mapping], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a metric; a long curve is averaged over equal stretches."""
    points = np.array([(row["step"], row[key]) for row in metrics if key in row], np.float64).reshape(-1, 2)
    if len(points) > _POINTS:
        points = np.array([stretch.mean(axis=0) for stretch in np.array_split(points, _POINTS)])
    return points[:, 0], points[:, 1]
