"""Pieces of a page: text, table, fold (page: `eval.html.frame`, curves: `eval.html.plots`).

Every function returns a fragment of HTML in which all text that came in is escaped.
"""

from __future__ import annotations

import html
import itertools
import math
import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

_MANY = 12  # columns from which on a table is set more tightly


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


class Told(NamedTuple):
    """A cell of a table that tells more to a pointer that rests on it."""

    shown: str
    more: str


def table(
    rows: Sequence[Sequence],
    columns: Sequence[str | tuple[str, str]],
    caption: str = "",
    digits: int = 2,
    *,
    kinds: Sequence[str] = (),
    folded: str = "more rows",
    worded: bool = False,
) -> Html:
    """Returns a table that scrolls inside its own box where it is wider than the page.

    Args:
      rows: cells of each row, the first one its heading. Floats get `digits` decimals and tell the others to a pointer,
        integers get separators of thousands, None and NaN a dash; `Told` is as it says, everything else is text.
      columns: heading of each column, or (group, heading) for neighbouring columns under one heading.
      caption: a line under the table.
      digits: decimals of floats.
      kinds: of each row, if any has one: "ours" is marked, "aside" is quieter, "more" shows when it is asked for.
      folded: what the rows of kind "more" are, after their number.
      worded: whether cells are sentences, which break, instead of numbers.

    Raises:
      ValueError: a row has another number of cells than there are columns, or there is not a kind for each row.
    """
    if kinds and len(kinds) != len(rows):
        raise ValueError(f"{len(kinds)} kinds for {len(rows)} rows")
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"row {row[0] if row else ''!r} has {len(row)} cells for {len(columns)} columns")
    body = ""
    for (head, *cells), kind in zip(rows, kinds or [""] * len(rows), strict=True):
        values = "".join(_cell("td", value, digits) for value in cells)
        of_kind = f' class="{kind}"' if kind else ""
        body += f"<tr{of_kind}>{_cell('th', head, digits, 'row')}{values}</tr>\n"
    look = " worded" if worded else " dense" if len(columns) >= _MANY else ""
    hidden = sum(kind == "more" for kind in kinds)
    more = f"<details><summary>{hidden} {escaped(folded)}</summary></details>\n" if hidden else ""
    below = f"<figcaption>{escaped(caption)}</figcaption>\n" if caption else ""
    return Html(
        f'<figure class="table{look}">\n<div tabindex="0">\n<table>\n'
        f"<thead>\n{_table_head(columns)}</thead>\n"
        f"<tbody>\n{body}</tbody>\n</table>\n</div>\n{more}{below}</figure>"
    )


def fold(heading: str, content: Html, opened: bool = False) -> Html:
    """Returns content that opens and closes when its heading is pressed."""
    return Html(
        f"<details{' open' if opened else ''}>\n<summary>{escaped(heading)}</summary>\n{escaped(content)}\n</details>"
    )


def link(path: str, text: str = "") -> Html:
    """Returns a link to a file by its path relative to the page."""
    return Html(f'<a href="{quote(path)}">{escaped(text or path)}</a>')


def subheading(text: str) -> Html:
    """Returns a heading below that of a section."""
    return Html(f"<h3>{escaped(text)}</h3>")


def join(*parts: Html) -> Html:
    """Returns fragments below each other."""
    return Html("\n".join(map(escaped, filter(None, parts))))


def _cell(tag: str, value: Any, digits: int, scope: str = "") -> str:
    shown, more = value if isinstance(value, Told) else (_shown(value, digits), _rounded(value, digits))
    said = {"scope": scope, "title": more}
    attributes = "".join(f' {name}="{html.escape(text)}"' for name, text in said.items() if text)
    return f"<{tag}{attributes}>{escaped(shown)}</{tag}>"


def _shown(value: Any, digits: int) -> Html:
    if value is None or (isinstance(value, numbers.Real) and math.isnan(value)):
        return Html("–")
    if isinstance(value, numbers.Integral):
        return Html(f"{value:,}")
    if isinstance(value, numbers.Real):
        return Html(f"{value:,.{digits}f}")
    return escaped(value)


def _rounded(value: Any, digits: int) -> str:
    """The value with more digits where the table rounds it."""
    if not isinstance(value, numbers.Real) or isinstance(value, numbers.Integral) or not math.isfinite(value):
        return ""
    return "" if float(f"{value:.{digits}f}") == float(f"{value:.8g}") else f"{value:.8g}"


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
