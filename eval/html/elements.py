"""Pieces of a page: text, table, fold (page: `eval.html.frame`, curves: `eval.html.plots`).

Every function returns a fragment of HTML in which all text that came in is escaped.
"""

from __future__ import annotations

import html
import itertools
import math
import numbers
from collections.abc import Sequence


class Html(str):
    """Markup that is safe as it stands; any other text is escaped."""

    def __html__(self) -> str:  # Jinja2 asks for it
        return self


def escaped(text) -> Html:
    """Returns text as HTML: `Html` as it is, everything else escaped."""
    return text if isinstance(text, Html) else Html(html.escape(str(text)))


def paragraph(text: str) -> Html:
    """Returns a paragraph."""
    return Html(f"<p>{escaped(text)}</p>")


def remark(text: str) -> Html:
    """Returns a paragraph in the small print of a table or a figure."""
    return Html(f'<p class="remark">{escaped(text)}</p>')


def table(
    rows: Sequence[Sequence],
    columns: Sequence[str | tuple[str, str]],
    caption: str = "",
    digits: int = 2,
) -> Html:
    """Returns a table that scrolls inside its own box where it is wider than the page.

    Args:
      rows: cells of each row, the first one its heading. Floats get `digits` decimals, integers separators of
        thousands, None and NaN a dash; everything else is text.
      columns: heading of each column, or (group, heading) for neighbouring columns under one heading.
      caption: a line under the table.
      digits: decimals of floats.

    Raises:
      ValueError: a row has another number of cells than there are columns.
    """
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"row {row[0] if row else ''!r} has {len(row)} cells for {len(columns)} columns")
    body = ""
    for head, *cells in rows:
        values = "".join(f"<td>{_cell(value, digits)}</td>" for value in cells)
        body += f'<tr><th scope="row">{_cell(head, digits)}</th>{values}</tr>\n'
    below = f"<figcaption>{escaped(caption)}</figcaption>\n" if caption else ""
    return Html(
        f'<figure class="table">\n<div tabindex="0">\n<table>\n<thead>\n{_table_head(columns)}</thead>\n'
        f"<tbody>\n{body}</tbody>\n</table>\n</div>\n{below}</figure>"
    )


def fold(heading: str, content: Html, opened: bool = False) -> Html:
    """Returns content that opens and closes when its heading is pressed."""
    return Html(
        f"<details{' open' if opened else ''}>\n<summary>{escaped(heading)}</summary>\n{escaped(content)}\n</details>"
    )


def subheading(text: str) -> Html:
    """Returns a heading below that of a section."""
    return Html(f"<h3>{escaped(text)}</h3>")


def join(*parts: Html) -> Html:
    """Returns fragments below each other."""
    return Html("\n".join(map(escaped, filter(None, parts))))


def _cell(value, digits: int) -> Html:
    if value is None or (isinstance(value, numbers.Real) and math.isnan(value)):
        return Html("–")
    if isinstance(value, numbers.Integral):
        return Html(f"{value:,}")
    if isinstance(value, numbers.Real):
        return Html(f"{value:,.{digits}f}")
    return escaped(value)


def _table_head(columns: Sequence[str | tuple[str, str]]) -> str:
    if not any(isinstance(column, tuple) for column in columns):
        return "<tr>" + "".join(f'<th scope="col">{escaped(column)}</th>' for column in columns) + "</tr>\n"
    upper = lower = ""
    named = [column if isinstance(column, tuple) else (None, column) for column in columns]
    for group, members in itertools.groupby(named, key=lambda column: column[0]):
        names = [name for _, name in members]
        if group is None:
            upper += "".join(f'<th scope="col" rowspan="2">{escaped(name)}</th>' for name in names)
        else:
            upper += f'<th scope="colgroup" colspan="{len(names)}">{escaped(group)}</th>'
            lower += "".join(f'<th scope="col">{escaped(name)}</th>' for name in names)
    return f"<tr>{upper}</tr>\n<tr>{lower}</tr>\n"
