"""The first table of the report: every model's main score on every data set."""

from __future__ import annotations

from collections.abc import Sequence

from eval.html import elements
from eval.suite.sections.grouping import Result, data_of, model_of

# (task, variant) → what its column group is called, and the score in it.
SCORES = {
    ("retrieval", "long"): ("Retrieval, long text", "mean_recall"),
    ("retrieval", "short"): ("Retrieval, short text", "mean_recall"),
    ("zeroshot", "normalised"): ("Zero-shot", "accuracy"),
    ("linear_probe", None): ("Linear probe", "accuracy"),
    ("knn", None): ("k-NN", "accuracy"),
    ("selo", None): ("Semantic localisation", "R_mi"),
}


def section(results: Sequence[Result]) -> list[tuple[str, elements.Html]]:
    """Returns the overview, or nothing where no result has a main score."""
    columns = scores(results)
    if not columns:
        return []
    models = list(dict.fromkeys(model for of_models in columns.values() for model in of_models))
    rows = [[model, *(of_models.get(model) for of_models in columns.values())] for model in models]
    caption = (
        "Retrieval: mean recall; zero-shot, linear probe, k-NN: accuracy, all in per cent; localisation: R_mi, "
        "between 0 and 1. Higher is better."
    )
    return [("Overview", elements.table(rows, ["", *columns], caption))]


def lines(results: Sequence[Result]) -> list[str]:
    """Returns the main scores as lines of text."""
    table = [
        (heading, data, model, score)
        for (heading, data), of_models in scores(results).items()
        for model, score in of_models.items()
    ]
    widths = [max((len(row[place]) for row in table), default=0) for place in range(4)]
    return [f"{a:{widths[0]}}  {b:{widths[1]}}  {c:{widths[2]}}  {d:>{widths[3]}}" for a, b, c, d in table]


def scores(results: Sequence[Result]) -> dict[tuple[str, str], dict[str, str]]:
    """Returns the main scores as text: (heading, data) → {model: score}."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for kind, (heading, key) in SCORES.items():
        for result in results:
            if (result["task"], result.get("kind") or result.get("average")) == kind:
                score = f"{result[key]:.{4 if key == 'R_mi' else 2}f}"
                found.setdefault((heading, data_of(result)), {})[model_of(result)] = score
    return found
