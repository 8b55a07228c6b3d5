"""CSV files of boxes, a row an object: image_path, xmin, ymin, xmax, ymax, label (as DeepForest has them)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lrsclip_jax.corpus.sources.rows import columns, table
from lrsclip_jax.data.sources import clean
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.annotations.annotated import annotated
from lrsclip_jax.sources.item import Fault, Item, Thing

_EDGES = ("xmin", "ymin", "xmax", "ymax")


def read(path: Path, root: Path, source: str) -> Iterator[Item | Fault]:
    """Yields an item an image, in the order of their first rows; the rows are held in memory.

    Boxes begin at xmin, ymin and end before xmax, ymax. A row whose edges are all empty, or 0, says that its image has
    no objects.
    """
    missing = {"image_path", *_EDGES, "label"} - set(columns(path))
    if missing:
        raise InputError(f"{path}: no column {', '.join(sorted(missing))}; columns found: {', '.join(columns(path))}")
    of_image: dict[str, list[tuple[str, dict]]] = {}
    for where, row in table(path):
        if isinstance(row, InputError):
            yield Fault(where, str(row).removeprefix(f"{where}: "))
        elif row["image_path"]:
            of_image.setdefault(row["image_path"], []).append((where, row))
        else:
            yield Fault(where, "no image_path")
    for image, rows in of_image.items():
        yield annotated(root / image, root, source, _things(rows), rows[0][0])


def _things(rows: list[tuple[str, dict]]) -> Iterator[Thing | Fault]:
    for where, row in rows:
        edges = [(row[edge] or "").strip() for edge in _EDGES]
        if set(edges) <= {"", "0", "0.0"}:
            continue
        name = clean(row["label"] or "")
        try:
            x0, y0, x1, y1 = map(float, edges)
        except ValueError:
            yield Fault(where, f"a box of four numbers is expected, got {', '.join(edges):.80}")
            return
        if not name:
            yield Fault(where, "no label")
            return
        yield Thing(name, (x0, y0, x1, y1))
