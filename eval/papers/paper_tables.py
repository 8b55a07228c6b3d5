"""The tables of both papers as they are shown: published rows, and measured rows below them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from eval.html.elements import Html, Told, escaped, fold, join, paragraph, remark, subheading
from eval.html.elements import table as html_table
from eval.papers.footnotes import checks
from eval.papers.measured import OurRow, Result, measured
from eval.papers.published_tables import Column, PublishedRow, PublishedTable, address, tables

ORIGIN = {False: "published", True: "ours"}
LEGEND = "Rows marked “published” are the papers' own numbers; rows marked “ours” were measured here."
ASIDES, OTHERS = "The papers' ablations, and read-mes", "The papers' other tables"
LOWER = "R_as"  # the one metric of which less is better
BEST = 3  # published rows next to ours before the others are folded
_PAPERS = ("LRSCLIP", "RSCLIP")  # whose tables a report is about


class TableCell(NamedTuple):
    """A value as it is shown, the numbers of its footnotes, and the value itself where it is a number."""

    text: str
    notes: tuple[int, ...] = ()
    value: float | None = None


class Line(NamedTuple):
    """A row as it is shown: whether it is ours, its heads, and its values."""

    ours: bool
    heads: tuple[str, ...]
    cells: tuple[TableCell, ...]


class Shown(NamedTuple):
    """A table as it is shown: blocks of lines under a heading each ("" for none), and the texts below them."""

    title: str
    heads: tuple[str, ...]
    columns: tuple[Column, ...]
    blocks: tuple[tuple[str, tuple[Line, ...]], ...]
    footnotes: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def has_ours(self) -> bool:
        """Whether a row is ours."""
        return any(line.ours for _, lines in self.blocks for line in lines)


def paper_tables(results: Sequence[Result]) -> list[tuple[str, Html]]:
    """Returns sections of a report: one for each table that has measured rows, then folded ones.

    Args:
      results: JSON objects, one a task, model and data set; those of tasks or data sets in no table are passed over.
    """
    shown = [(table, arrange(table, results)) for table in tables()]
    ours = [(table, shown) for table, shown in shown if shown.has_ours]
    sections = [(shown.title, as_html(shown)) for table, shown in ours if not _is_aside(table)]
    if sections:
        title, content = sections[0]
        sections[0] = title, join(paragraph(LEGEND), content)
    asides = [shown for table, shown in ours if _is_aside(table)]
    others = [shown for _, shown in shown if not shown.has_ours]
    folded = [(ASIDES, asides), (OTHERS, others)]
    return sections + [(title, join(*(fold(t.title, as_html(t)) for t in group))) for title, group in folded if group]


def arrange(table: PublishedTable, results: Sequence[Result] = ()) -> Shown:
    """Returns a table with our rows below the published ones of each block, and its footnotes numbered in order."""
    ours = measured(results, table)
    found = [note for note in _checks() if (note.paper, note.table) == (table.paper, table.label)]
    of_place = {place: [n.text for n in found if place in n.places] for note in found for place in note.places}
    numbers: dict[str, int] = {}  # of each footnote, by its text
    blocks = []
    for heading, members in itertools.groupby(enumerate(table.rows), lambda row: table.group.format(**row[1].heads)):
        members = list(members)
        lines = [_published_line(table, number, row, of_place, numbers) for number, row in members]
        our_lines = [_our_line(table, members[0][1], name, row, numbers) for name, row in ours.items()]
        blocks.append((heading, (*lines, *(line for line in our_lines if line))))
    notes = (*(note.text for note in found if not note.places), *table.notes)
    title = f"{table.name}: {table.title}"
    return Shown(title, tuple(table.heads.values()), table.columns, tuple(blocks), tuple(numbers), notes)


def as_html(shown: Shown) -> Html:
    """Returns the blocks as tables of a report, each row marked by its origin, with footnotes and notes below.

    In a block with our rows these come first, then the best three published ones; the others are folded. In such a
    table the blocks without our rows are folded, too.
    """
    columns = [*shown.heads, *((c.group, c.heading) if c.group else c.heading for c in shown.columns)]
    parts: list[Html] = []
    for heading, lines in sorted(shown.blocks, key=lambda block: not any(line.ours for line in block[1])):
        ours = [line for line in lines if line.ours]
        ordered = ours + _best_first([line for line in lines if not line.ours], ours, shown.columns)
        rows = [[_html_head(line), *line.heads[1:], *map(_html_cell, line.cells)] for line in ordered]
        shows = len(ours) + BEST if ours else len(rows)
        kinds = ["ours" if line.ours else "aside" if place < shows else "more" for place, line in enumerate(ordered)]
        content = html_table(rows, columns, kinds=kinds, folded="more published rows")
        if shown.has_ours and not ours:
            parts.append(fold(f"{heading}: published rows alone", content))
        else:
            parts += [subheading(heading)] if heading else []
            parts.append(content)
    if shown.footnotes:
        notes = "".join(f"<li>{escaped(note)}</li>" for note in shown.footnotes)
        parts.append(Html(f'<ol class="footnotes">{notes}</ol>'))
    return join(*parts, *map(remark, shown.notes))


def as_text(shown: Shown) -> str:
    """Returns the table in aligned columns, each row marked by its origin, with footnotes and notes below."""
    top = ["", *("" for _ in shown.heads), *(column.group for column in shown.columns)]
    repeated = [text if text != before else "" for before, text in itertools.pairwise(["", *top])]
    every_line = [line for _, lines in shown.blocks for line in lines]
    room = [
        max(len(_marks(cell)) for cell in column) for column in zip(*(line.cells for line in every_line), strict=True)
    ]
    header = ["", *shown.heads, *(column.heading for column in shown.columns)]
    blocks = [
        (heading, [[ORIGIN[line.ours], *line.heads, *map(_text_cell, line.cells, room)] for line in lines])
        for heading, lines in shown.blocks
    ]
    widths = [
        max(map(len, column)) for column in zip(header, *(row for _, rows in blocks for row in rows), strict=True)
    ]
    left = 1 + len(shown.heads)

    def aligned(row: Sequence[str]) -> str:
        cells = (
            text.ljust(width) if i < left else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join(cells).rstrip()

    lines = [shown.title, ""]
    if any(top):
        lines.append(_spread(repeated, widths))
    lines.append(aligned(header))
    for heading, rows in blocks:
        lines += [f"— {heading}"] if heading else []
        lines += [aligned(row) for row in rows]
    lines += ["", *(f"[{number}] {note}" for number, note in enumerate(shown.footnotes, 1)), *shown.notes]
    return "\n".join(lines).rstrip() + "\n"


def _is_aside(table: PublishedTable) -> bool:
    return "ablation" in table.tasks or table.paper not in _PAPERS


def _published_line(
    table: PublishedTable, number: int, row: PublishedRow, of_place: Mapping, numbers: dict[str, int]
) -> Line:
    mark = row.heads.get("mark", "")
    heads = tuple(_text(row.heads.get(head), 0) for head in table.heads)
    cells = [
        TableCell(_text(value, column.digits), _numbered(of_place.get((number, path), ()), numbers), _number(value))
        for (path, value), column in zip(row.values.items(), table.columns, strict=True)
    ]
    return Line(False, (f"{heads[0]} {mark}".strip(), *heads[1:]), tuple(cells))


def _our_line(
    table: PublishedTable, like: PublishedRow, name: str, row: OurRow, numbers: dict[str, int]
) -> Line | None:
    cells = []
    for path, column in table.columns_of(like).items():
        found = row.values.get(address(path))
        departures = [f"{name}, {text}." for text in found.departures] if found else []
        value = found and found.value
        cells.append(TableCell(_text(value, column.digits), _numbered(departures, numbers), _number(value)))
    if all(cell.text == "–" for cell in cells):
        return None
    first, *others = (row.heads.get(head, "") for head in table.heads)
    return Line(True, (f"{first} ({name})" if first else name, *others), tuple(cells))


def _numbered(texts: Sequence[str], numbers: dict[str, int]) -> tuple[int, ...]:
    return tuple(numbers.setdefault(text, len(numbers) + 1) for text in texts)


def _text(value, digits: int) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else f"{value:,.{digits}f}"


def _number(value: Any) -> float | None:
    return None if value is None or isinstance(value, str) else float(value)


def _best_first(published: Sequence[Line], ours: Sequence[Line], columns: Sequence[Column]) -> list[Line]:
    """The published lines by their mean rank in the columns in which one of our lines has a value."""
    shared = [place for place in range(len(columns)) if any(line.cells[place].value is not None for line in ours)]

    def rank(line: Line) -> int:
        return sum(_better(line, other, place, columns[place]) for place in shared for other in published)

    return sorted(published, key=rank)


def _better(line: Line, other: Line, place: int, column: Column) -> bool:
    """Whether another line is better than this one in a column."""
    value, others = line.cells[place].value, other.cells[place].value
    if value is None or others is None:
        return value is None and others is not None
    return others < value if column.path.endswith(LOWER) else others > value


def _html_head(line: Line) -> Html:
    origin = ORIGIN[line.ours]
    return Html(f'{escaped(line.heads[0])} <span class="origin {origin}">{origin}</span>')


def _html_cell(cell: TableCell) -> Told:
    notes = f"<sup>{', '.join(map(str, cell.notes))}</sup>" if cell.notes else ""
    rounded = cell.value is not None and float(cell.text.replace(",", "")) != cell.value
    return Told(Html(escaped(cell.text) + notes), f"{cell.value:.8g}" if rounded else "")


def _text_cell(cell: TableCell, room: int) -> str:
    return cell.text + _marks(cell).ljust(room)  # digits stay below digits


def _marks(cell: TableCell) -> str:
    return "".join(f"[{number}]" for number in cell.notes)


def _spread(words: Sequence[str], widths: Sequence[int]) -> str:
    """Each word above the start of its column, as long as it needs."""
    line, start = "", 0
    for word, width in zip(words, widths, strict=True):
        line = line.ljust(start) + (f"{word} " if word else "")
        start += width + 2
    return line.rstrip()


_checks = functools.cache(checks)
