"""Sentences in the report: HiMo@K against K, one curve a model, and R@1 of edited texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eval.html import elements, plots
from eval.html.retrieval_table import DIRECTIONS
from eval.suite.sections.result_groups import Result, by_data, model_of
from eval.suite.tasks import CAPTIONS

_TEXTS = {"in_order": "in order", "shuffled": "shuffled", "without_first": "without the first"}
_PUBLISHED = (
    "Published on other texts, 1,000 captions of DOCCI that grow by phrases (HiMo-CLIP's read-me): CLIP 0.43, "
    "Long-CLIP −0.55, TULIP 0.67, FG-CLIP 0.75, FineLIP 0.83, HiMo-CLIP 0.88."
)


def section(results: Sequence[Result]) -> list[tuple[str, elements.Html]]:
    """Returns a curve of HiMo@K and a table for each data set and kind of text."""
    return [
        (f"Sentences of the {kind} text: {data}", elements.join(_curves(rows), _table(rows)))
        for kind in CAPTIONS
        for data, rows in by_data(results, "sentences", kind=kind).items()
    ]


def _curves(rows: Sequence[Result]) -> elements.Html:
    curves = {model_of(row): ([int(k) for k in row["himo"]], list(row["himo"].values())) for row in rows}
    return plots.side_by_side([plots.line_plot(curves, "K, sentences", "", "HiMo@K")])


def _table(rows: Sequence[Result]) -> elements.Html:
    columns: list[str | tuple[str, str]] = ["", "HiMo"]
    columns += [(f"{heading}, R@1", of) for heading in DIRECTIONS.values() for of in _TEXTS.values()]
    cells: list[list[Any]] = []
    for row in rows:
        recalls = (row[name][direction]["R@1"] for direction in DIRECTIONS for name in _TEXTS)
        cells.append([model_of(row), row["himo_own"], *recalls])
    last = rows[0]
    counts = ", ".join(f"{count:,} for K = {k}" for k, count in last["himo_texts"].items())
    caption = (
        "HiMo: the correlation of score and number of sentences kept, from -1 to 1, each text up to its own number or "
        f"10; recalls in per cent. Texts of K sentences or more, of {last['texts']:,}: {counts}."
    )
    return elements.join(elements.table(cells, columns, caption), elements.remark(_PUBLISHED))
