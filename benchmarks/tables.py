"""Markdown tables of what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Row = Mapping[
    str, str
]  # a cell for each column; a number is text already, so that its digits are those that it deserves


def markdown(rows: Sequence[Row]) -> str:
    """Returns rows as a Markdown table; its columns are those of all rows, in the order in which they first occur."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)]]
    lines += [[row.get(column, "").replace("|", "\\|").replace("\n", " ") for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(median: float, least: float, most: float, form: str = ",.3g") -> str:
    """Returns "2 (1 to 3)"."""
    return f"{median:{form}} ({least:{form}} to {most:{form}})"
