"""A corpus as JSON in the shape of LRS2M: an image with its long and short texts a row.

LRS2M's own keys were never published; here they are `image`, `long` and `short`, and can be renamed both ways.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from eval.whole import whole
from lrsclip_jax.corpus.records.record import CorpusRecord
from lrsclip_jax.errors import InputError, nearest

PARTS = ("image", "long", "short", "source", "label", "licence", "split", "negative")  # of a row


def export_lrs2m(
    records: Iterable[CorpusRecord],
    path: str | os.PathLike[str],
    keys: Mapping[str, str] | None = None,
    image_root: str | os.PathLike[str] | None = None,
) -> int:
    """Writes records as a JSON list, or to a .jsonl file as JSON lines, whole or not at all, and returns how many.

    A row has the image, its texts (a text, or a list of several) and, where known, source, label, licence, split and
    the hard negatives of its short texts. Images below `image_root` get a path relative to it, others keep their
    absolute one. `keys` renames keys: {"long": "long_caption"}; InputError for a name that rows don't have, or two
    names with one key.
    """
    path, count = Path(path), 0
    names = _names(keys or {})
    root = None if image_root is None else Path(image_root).absolute()
    lines = path.suffix == ".jsonl"
    with whole(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write("" if lines else "[")
        for count, record in enumerate(records, 1):
            row = {names[name]: given for name, given in _row(record, root).items() if given}
            file.write(("" if lines else "\n" if count == 1 else ",\n") + json.dumps(row, ensure_ascii=False))
            file.write("\n" if lines else "")
        file.write("" if lines else "\n]\n")
    return count


def _names(keys: Mapping[str, str]) -> dict[str, str]:
    """The key of each part of a row."""
    for name in keys:
        if name not in PARTS:
            raise InputError(f"rows have no {name!r} to rename{nearest(name, PARTS)} (known: {', '.join(PARTS)})")
    names = {name: name for name in PARTS} | dict(keys)
    for key, times in Counter(names.values()).items():
        if times > 1:
            raise InputError(f"{' and '.join(name for name in names if names[name] == key)} would both be {key!r}")
    return names


def _row(record: CorpusRecord, root: Path | None) -> dict[str, Any]:
    image = Path(record.image)
    row = {name: getattr(record, name) for name in PARTS}
    row["image"] = image.relative_to(root).as_posix() if root and image.is_relative_to(root) else record.image
    for kind in ("long", "short", "negative"):
        row[kind] = row[kind][0] if len(row[kind]) == 1 else list(row[kind])
    return row
