"""CSV files of boxes, a row an object: image_path, xmin, ymin, xmax, ymax, label (as DeepForest has them)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside, Thing
from lrsclip_jax.corpus.sources.origin import Origin
from lrsclip_jax.corpus.sources.rows import columns, table
from lrsclip_jax.errors import InputError

_EDGES = ("xmin", "ymin", "xmax", "ymax")


def read(path: Path, origin: Origin) -> Iterator[CorpusRecord | SetAside]:
    """Yields a record an image, in the order of their first rows; the rows are held in memory.

    Boxes begin at xmin, ymin and end before xmax, ymax. A row whose edges are all empty, or 0, says that its image has
    no objects.
    """
    missing = {"image_path", *_EDGES, "label"} - set(columns(path))
    if missing:
        raise InputError(f"{path}: no column {', '.join(sorted(missing))}; columns found: {', '.join(columns(path))}")
    of_image: dict[str, list[tuple[str, dict]]] = {}
    for where, row in table(path):
        if isinstance(row, InputError):
            yield origin.set_aside(where, str(row))
            continue
        if row["image_path"]:
            of_image.setdefault(row["image_path"], []).append((where, row))
        else:
            yield origin.set_aside(where, f"{where}: no image_path")
    for image, rows in of_image.items():
        yield origin.annotated(origin.root / image, _things(rows), rows[0][0])


def _things(rows: list[tuple[str, dict]]) -> Iterator[Thing]:
    for where, row in rows:
        edges = [(row[edge] or "").strip() for edge in _EDGES]
        if set(edges) <= {"", "0", "0.0"}:
            continue
        name = (row["label"] or "").strip()
        try:
            box = tuple(map(float, edges))
        except ValueError:
            raise InputError(f"{where}: a box of four numbers is expected, got {', '.join(edges)}") from None
        if not name:
            raise InputError(f"{where}: no label")
        yield Thing(name, box)
