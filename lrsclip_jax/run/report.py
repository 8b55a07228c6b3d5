"""A run's elements.html: curves, the held-out table, queries with their five best images."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from etils import epath

from eval.html import elements, galleries, plots
from eval.html.retrieval_table import recall_table
from eval.retrieval import Retrieval, bootstrap_interval, ranks_to_metrics
from lrsclip_jax.errors import InputError
from lrsclip_jax.run.words import duration

POINTS = 300  # a curve's; more would swell the page and show nothing
PARTS = {  # of the loop's time, see lrsclip_jax.run.clock
    "data_wait": "waiting for a batch",
    "host": "dispatching steps, Python",
    "device": "waiting for the devices",
    "checkpoint": "checkpoints, as far as they hold it up",
    "evaluation": "evaluation",
    "compile": "compiling",
    "profile": "profiling",
}
LOSSES = {"loss": "total", "loss_long": "long text", "loss_short": "short text"}


@dataclass(frozen=True)
class Run:
    """What the summary says: title, recipe and data in words, pairs a step, seconds it took, machine."""

    title: str
    recipe: str
    data: str
    batch_size: int
    seconds: float
    machine: str


@dataclass(frozen=True)
class HeldOutReport:
    """A held-out set: rows of its table (name → result of `eval.retrieval`), remarks, queries to show.

    `name` is that of the metrics "eval/NAME/ROW/mean_recall". A row that the metrics lack, such as chance, is
    drawn among the curves as a level.
    """

    name: str
    results: Mapping[str, Mapping]
    remarks: Sequence[str] = ()
    queries: Sequence[galleries.Query] = ()


def write_report(
    workdir: epath.PathLike, run: Run, metrics: Sequence[Mapping], heldout: Sequence[HeldOutReport]
) -> epath.Path:
    """Writes `elements.html` into the run's folder, whole or not at all, and returns its path.

    Args:
      workdir: the run's folder.
      run: facts for the summary.
      metrics: rows of metrics.jsonl, {"step": …, "loss": …, …}; what a row lacks is not drawn at that step.
      heldout: the sets of the last evaluation.

    Raises:
      InputError: the file can't be written.
    """
    path = epath.Path(workdir) / "report.html"
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_bytes(compose(run, metrics, heldout).encode())
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"can't write {path}: {error.strerror or error}") from error
    return path


def compose(run: Run, metrics: Sequence[Mapping], heldout: Sequence[HeldOutReport]) -> str:
    """Returns the report as one self-contained HTML document; arguments as for `write_report`."""
    figures = _figures(metrics, heldout)
    sections = [("Training", plots.side_by_side(figures))] if figures else []
    if any("ms/host" in row for row in metrics):
        sections.append(("Where the time went", _time(metrics)))
    for held in heldout:
        remarks = "\n".join(elements.paragraph(remark) for remark in held.remarks)
        sections.append((f"Retrieval on {held.name}", elements.Html(f"{remarks}\n{recall_table(held.results)}")))
        if held.queries:
            heading = "Queries and their five best images" + (f", {held.name}" if len(heldout) > 1 else "")
            sections.append((heading, galleries.gallery(held.queries)))
    return elements.page(run.title, sections, _summary(run, metrics))


def comparison(name: str, ranks: Retrieval, other_name: str, other_ranks: Retrieval) -> str:
    """Returns a sentence: the mean recalls of two rows over the same images, their ratio and its interval."""
    value, other = (ranks_to_metrics(each)["mean_recall"] for each in (ranks, other_ranks))
    ratio = bootstrap_interval(operator.truediv, ranks, other_ranks)
    return (
        f"Mean recall: {name} {value:.2f} %; {other_name} {other:.2f} %; ratio {ratio.value:.2f} "
        f"(95 % bootstrap interval {ratio.low:.2f} to {ratio.high:.2f})."
    ).replace(" %", "\N{NO-BREAK SPACE}%")


def _summary(run: Run, metrics: Sequence[Mapping]) -> str:
    steps = max((row["step"] for row in metrics), default=0)
    rates = [row["pairs_per_second"] for row in metrics if "pairs_per_second" in row]
    rate = f", {np.median(rates):,.0f} pairs/s" if rates else ""
    return (
        f"{run.recipe}; trained on {run.data}: {steps:,} steps of {run.batch_size:,} pairs "
        f"in {duration(run.seconds)}{rate}, on {run.machine}."
    )


def _time(metrics: Sequence[Mapping]) -> elements.Html:
    """A step's mean time by the parts of the loop, and in a sentence what a device did in it."""
    rows = [row for row in metrics if "ms/host" in row]
    steps = np.diff([row["step"] for row in rows], prepend=0)
    mean = {part: np.average([row.get(f"ms/{part}", 0.0) for row in rows], weights=steps) for part in PARTS}
    table = elements.table(
        [[PARTS[part], time, 100 * time / sum(mean.values())] for part, time in mean.items() if time],
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


def _figures(metrics: Sequence[Mapping], heldout: Sequence[HeldOutReport]) -> list[elements.Html]:
    losses = {name: _curve(metrics, key) for key, name in LOSSES.items()}
    drawn = [("Loss", losses)]
    for held in heldout:
        of_set = f" on {held.name}" if len(heldout) > 1 else ""
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
    curves = {name: _curve(metrics, key) for key, name in names.items()}
    steps = [step for x, _ in curves.values() for step in x]
    levels = {name: result["mean_recall"] for name, result in held.results.items() if name not in curves}
    if steps:
        curves |= {name: ([min(steps), max(steps)], [level] * 2) for name, level in levels.items()}
    return curves


def _curve(metrics: Sequence[Mapping], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a metric; a long curve is averaged over equal stretches."""
    points = np.array([(row["step"], row[key]) for row in metrics if key in row], np.float64).reshape(-1, 2)
    if len(points) > POINTS:
        points = np.array([stretch.mean(axis=0) for stretch in np.array_split(points, POINTS)])
    return points[:, 0], points[:, 1]
