"""Hard negatives in the report: how often a text scores above itself with one fact changed."""

from __future__ import annotations

from collections.abc import Sequence

from eval.html import elements
from eval.suite.sections.result_groups import Result, by_data, model_of


def section(results: Sequence[Result]) -> list[tuple[str, elements.Html]]:
    """Returns a table for each data set."""
    return [(f"Hard negatives: {data}", _table(rows)) for data, rows in by_data(results, "negatives").items()]


def _table(rows: Sequence[Result]) -> elements.Html:
    cells = [[model_of(row), row["texts"], row["accuracy"]] for row in rows]
    caption = "Texts that score above themselves with one fact changed, in per cent; 50 by chance."
    return elements.table(cells, ["", "Texts", "Accuracy"], caption)
