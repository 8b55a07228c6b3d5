"""Text length in the report: R@1 against the tokens kept, one curve a model, and how long texts are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.html import elements, plots
from eval.html.retrieval_table import DIRECTIONS
from eval.suite.sections.result_groups import Result, by_data, model_of
from eval.suite.tasks import CAPTIONS


def section(results: Sequence[Result]) -> list[tuple[str, elements.Html]]:
    """Returns curves and their table for each data set and kind of text, and histograms of lengths."""
    sections = []
    for kind in CAPTIONS:
        for data, rows in by_data(results, "length", kind=kind).items():
            sections.append((f"Length of the {kind} text: {data}", elements.join(_curves(rows), _table(rows))))
    if lengths := by_data(results, "text_lengths"):
        histograms = plots.side_by_side([_histogram(data, rows) for data, rows in lengths.items()])
        sections.append(("How long the texts are", elements.join(histograms, _summary(lengths))))
    return sections


def _curves(rows: Sequence[Result]) -> elements.Html:
    return plots.side_by_side(
        [
            plots.line_plot(
                {model_of(row): (row["tokens"], row[direction]["R@1"]) for row in rows},
                "tokens kept",
                "",
                f"{heading}, R@1 in %",
            )
            for direction, heading in DIRECTIONS.items()
        ]
    )


def _table(rows: Sequence[Result]) -> elements.Html:
    columns = sorted({n for row in rows for n in row["tokens"]})
    cells = []
    for row in rows:
        at = dict(zip(row["tokens"], row["mean_recall"], strict=True))
        cells.append([model_of(row), *(at.get(n) for n in columns), row["whole"]["mean_recall"]])
    named = [("Tokens kept", f"{n}") for n in columns]
    cut = "; ".join(dict.fromkeys(filter(None, map(_cut, rows))))
    return elements.table(cells, ["", *named, "Whole text"], f"Mean recall in per cent{cut and f'. {cut}'}.")


def _cut(row: Result) -> str:
    if "cut" not in row:
        return ""
    at = (f"{cut:,} at {n}" for n, cut in zip(row["tokens"], row["cut"], strict=True))
    return f"Texts that lose tokens, of {row['whole']['texts']:,}: {', '.join(at)}"


def _distinct(rows: Sequence[Result]) -> dict[str, Mapping]:
    """The statistics of each kind of text; models whose tokenizers agree share one entry."""
    found = {}
    for kind in CAPTIONS:
        told = {model_of(row): row[kind] for row in rows if kind in row}
        if told and all(each == next(iter(told.values())) for each in told.values()):
            found[kind] = next(iter(told.values()))
        else:
            found |= {f"{kind}, {model}": each for model, each in told.items()}
    return found


def _histogram(data: str, rows: Sequence[Result]) -> elements.Html:
    width = rows[0]["bin"]
    series = {
        name: (
            [width * edge for edge in range(len(told["counts"]) + 1)],
            [100 * count / told["texts"] for count in told["counts"]],
        )
        for name, told in _distinct(rows).items()
    }
    return plots.histogram(series, "tokens", "", f"{data}: texts, %")


def _summary(of_data: Mapping[str, Sequence[Result]]) -> elements.Html:
    rows: list[list[Any]] = []
    contexts: dict[str, float] = {}
    for data, results in of_data.items():
        for name, told in _distinct(results).items():
            rows.append([f"{data}: {name}", told["texts"], told["mean"], told["median"], told["max"]])
            rows[-1] += told["above"].values()
            contexts |= told["above"]
    columns: list[str | tuple[str, str]] = ["", "Texts", "Mean", "Median", "Longest"]
    columns += [("Longer than, %", context) for context in contexts]
    return elements.table(rows, columns, "Tokens of a text, start and end token included.", digits=1)
