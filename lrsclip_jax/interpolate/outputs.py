"""The scores along a line: their file, from which a stopped command continues; table, page, and the best point."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from eval.errors import nearest
from eval.html import elements, frame, plots
from eval.output import check_folder
from eval.reading import Finite
from eval.seals import read_sealed, seal
from eval.whole import write_text
from lrsclip_jax.convert.import_checkpoint import config_of
from lrsclip_jax.errors import InputError
from lrsclip_jax.interpolate.line import Ends
from lrsclip_jax.run import checkpoint, workdir
from lrsclip_jax.sources.row_values import clean
from lrsclip_jax.weights import merged, model_of, read

FILE, PAGE, BEST = "interpolation.json", "report.html", "best"

Scores = dict[str, float]
Points = dict[float, Scores]  # scores by alpha
Line = dict[str, Any]  # what the points are of: sources and hashes of the ends, data, texts of classes


class _File(TypedDict):
    line: dict[str, Any]
    points: dict[str, dict[str, Finite]]


def check_out(out: Path) -> None:
    """Raises InputError where `out` can't be written, or holds something else."""
    check_folder(out, lambda folder: (folder / FILE).exists())


def begun(out: Path, line: Line) -> Points:
    """Returns the points that `out` holds of this line already; InputError where they are of another one."""
    if not (out / FILE).exists():
        return {}
    try:
        found: _File = read_sealed(out / FILE, _File)
    except InputError as error:
        raise InputError(f"{error}: remove this file, and all points are scored again") from None
    if differ := [name for name in line if found["line"].get(name) != line[name]]:
        raise InputError(f"{out} holds a line of other {', '.join(differ)}: give another --out")
    return {float(alpha): scores for alpha, scores in found["points"].items()}


def write(out: Path, line: Line, points: Points) -> None:
    """Writes the points so far, whole or not at all."""
    ordered = {str(alpha): points[alpha] for alpha in sorted(points)}
    write_text(out / FILE, seal(json.dumps({"line": line, "points": ordered}, indent=1)) + "\n")


def check_score(metric: str | None, names: Sequence[str]) -> None:
    """Raises InputError unless `metric` is None or one of the scores."""
    if metric is not None and metric not in names:
        raise InputError(f"--best={metric} is no score{nearest(metric, names)} (there are {', '.join(names)})")


def best_of(points: Points, metric: str | None) -> float:
    """Returns the alpha whose score, or mean of all scores, is highest; of equal ones the least."""
    return max(sorted(points), key=lambda alpha: value_of(points[alpha], metric))


def value_of(scores: Scores, metric: str | None) -> float:
    """Returns the score that decides."""
    return scores[metric] if metric else float(np.mean([*scores.values()]))


def table(points: Points, best: float, metric: str | None) -> list[str]:
    """Returns a line for each point, with its scores in per cent and their mean; a star marks the best."""
    names = [*points[best], *([] if metric else ["mean"])]
    lines = ["alpha  " + "  ".join(f"{name:>8}" for name in names)]
    for alpha in sorted(points):
        values = [*points[alpha].values(), *([] if metric else [value_of(points[alpha], None)])]
        cells = "  ".join(f"{value:{max(len(name), 8)}.2f}" for name, value in zip(names, values, strict=True))
        lines.append(f"{alpha:<5g}  {cells}{' *' if alpha == best else ''}")
    return lines


def compose(line: Line, points: Points, best: float, metric: str | None) -> str:
    """Returns the page: each score against alpha, and the numbers."""
    alphas, names = sorted(points), [*points[best]]
    shares = [100 * alpha for alpha in alphas]
    figures = [
        plots.line_plot({name: (shares, [points[alpha][name] for alpha in alphas])}, "alpha, % of B", "%", name)
        for name in names
    ]
    rows = [[f"{alpha:g}", *points[alpha].values()] for alpha in alphas]
    before, after = line["checkpoints"]
    said = (
        f"Each point is (1 - alpha) A + alpha B. A: {before}; B: {after}. "
        f"The highest {metric or 'mean of all scores'}, {value_of(points[best], metric):.2f}, is at alpha = {best:g}."
    )
    sections = [
        ("Scores", plots.side_by_side(figures)),
        ("Numbers", elements.table(rows, ["alpha", *names], "Mean recalls and accuracies in per cent.")),
    ]
    made_of = frame.provenance({"A": before, "B": after})
    return frame.page("Between two checkpoints", sections, said, made_of, files=(FILE,))


def keep(out: Path, ends: Ends, line: Line, best: float, scores: Mapping[str, float]) -> Path:
    """Writes the best point as a run folder with checkpoint 0, in the place of an earlier one, and returns it."""
    model, source = ends.at(best), line["checkpoints"][1]
    config = config_of({"image": source, "text": source}, model_of(merged(read(source), source)))
    if "logit_bias" in model.params:
        config.loss.name = "sigmoid"  # a run with such a parameter
    about = checkpoint.metadata(config, model.preprocessing, model.tokenizer)
    about["interpolation"] = line | {"alpha": best, "scores": dict(scores)}
    shutil.rmtree(out / BEST, ignore_errors=True)
    run = workdir.new(str(out / BEST))
    checkpoint.write(run, model.params, about)
    workdir.write_tokenizer(run, model.tokenizer.file)
    workdir.write_config(run, config)
    return out / BEST


def line_of(checkpoints: Sequence[str], ends: Ends, data: Sequence[str], templates: Sequence[str] | None) -> Line:
    """Returns what makes a line the same: its ends by name and weights, the data, and the texts of classes."""
    return {
        "checkpoints": [clean(source) for source in checkpoints],
        "weights": ends.hashes(),
        "data": [clean(source) for source in data],
        "templates": list(templates or ()),
        "dtype": ends.model.dtype,
    }
