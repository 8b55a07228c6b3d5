"""CSV files of boxes, a row an object: image_path, xmin, ymin, xmax, ymax, label (as DeepForest has them)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.annotations.annotated import annotated
from lrsclip_jax.sources.grouping import find_repeats, grouped
from lrsclip_jax.sources.item import Fault, Item, Thing
from lrsclip_jax.sources.row_values import clean, clean_name
from lrsclip_jax.sources.rows import Row
from lrsclip_jax.sources.tables import Table, open_table

_EDGES = ("xmin", "ymin", "xmax", "ymax")


def read(path: Path, root: Path, source: str) -> Iterator[Item | Fault]:
    """Yields an item an image, in the order of their first rows, wherever in the file its other rows stand.

    Boxes begin at xmin, ymin and end before xmax, ymax. A row whose edges are all empty, or 0, says that its image has
    no objects.
    """
    table = open_table(path)
    missing = {"image_path", *_EDGES, "label"} - set(table.columns)
    if missing:
        raise InputError(f"{path}: no column {', '.join(sorted(missing))}; columns found: {', '.join(table.columns)}")
    for rows in grouped(table, _image, find_repeats(table, _image)):
        place, values = rows[0]
        where = clean_name(table.where(place))
        if isinstance(values, str):
            yield Fault(where, values)
        elif image := _image(values):
            yield annotated(root / image, root, source, _things(table, rows), where)
        else:
            yield Fault(where, "no image_path")


def _image(row: Mapping[str, Any]) -> str | None:
    return (row["image_path"] or "").strip() or None


def _things(table: Table, rows: Sequence[Row]) -> Iterator[Thing | Fault]:
    for place, row in rows:
        assert not isinstance(row, str)  # which stands alone
        edges = [(row[edge] or "").strip() for edge in _EDGES]
        if set(edges) <= {"", "0", "0.0"}:
            continue
        where, name = clean_name(table.where(place)), clean(row["label"] or "")
        try:
            x0, y0, x1, y1 = map(float, edges)
        except ValueError:
            yield Fault(where, f"a box of four numbers is expected, got {', '.join(edges):.80}")
            return
        if not name:
            yield Fault(where, "no label")
            return
        yield Thing(name, (x0, y0, x1, y1))
