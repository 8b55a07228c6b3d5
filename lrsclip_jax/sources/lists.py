"""Lists of images in JSON and tables: their rows become items, one an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.grouping import find_repeats, grouped
from lrsclip_jax.sources.item import Fault, Item
from lrsclip_jax.sources.numbering import numbered
from lrsclip_jax.sources.row_keys import AskedKeys, RowReader, row_reader
from lrsclip_jax.sources.row_values import clean
from lrsclip_jax.sources.rows import Row, RowFile
from lrsclip_jax.sources.source import Reading, Stream, check_first


def list_stream(file: RowFile, name: str, root: Path, reading: Reading) -> Stream:
    """Returns the stream of a list's items, in the order of their images' first rows.

    Reads the list once, to find where images come again. A row that can't be used is a fault, and so is one that gives
    an image another label or another split than an earlier row does.

    Raises InputError where none of the first rows can be used, and where no row at all has a key that was asked for.
    """
    reader = row_reader(reading.keys, root, name, reading.template)
    check_first(item for row in file.rows() for item in _merged(file, [row], reader))
    asked = AskedKeys(reading.keys)
    plain = reading.keys.id is None  # every id is the path of its image, of which no two are the same

    def key_of(row: dict[str, Any]) -> str | None:
        nonlocal plain
        asked.see(row)
        image = _image_of(row, reader)
        plain = plain and row.get("id") is None and (image is None or clean(image) == image)
        return image

    repeats = find_repeats(file, key_of)
    asked.check(name)

    def stream() -> Iterator[Item | Fault]:
        for rows in grouped(file, lambda row: _image_of(row, reader), repeats):
            yield from _merged(file, rows, reader)

    return stream if plain else lambda: numbered(stream())


def _image_of(row: dict[str, Any], reader: RowReader) -> str | None:
    """What rows of one image have in common: its path; None where a row stands alone."""
    try:
        image = reader.image(row)
    except InputError:
        return None
    if not isinstance(image, str):
        return None
    return str(PurePosixPath(image)) if "./" in image or "//" in image else image


def _merged(file: RowFile, rows: Sequence[Row], reader: RowReader) -> Iterator[Item | Fault]:
    """The item of the rows of an image, and the faults of those that can't be used."""
    merged: Item | None = None
    faults = []
    for place, values in rows:
        where = file.where(place)
        if isinstance(values, str):
            faults.append(Fault(where, values))
            continue
        try:
            item = reader.item(values, where)
            merged = _joined(merged, item) if merged else item
        except InputError as error:
            faults.append(Fault(where, str(error), _image_of(values, reader) or ""))
    if merged:
        yield merged
    yield from faults


def _joined(first: Item, other: Item) -> Item:
    """An item with the texts of another row of its image."""
    for name in ("label", "split"):
        before, after = getattr(first, name), getattr(other, name)
        if before and after and before != after:
            raise InputError(f"{name} '{after}', where an earlier row of this image ({first.where}) has '{before}'")
    return replace(
        first,
        long=first.long + other.long,
        short=first.short + other.short,
        label=first.label or other.label,
        licence=first.licence or other.licence,
        split=first.split or other.split,
        empty_texts=first.empty_texts + other.empty_texts,
        negative=_negatives(first) + _negatives(other) if first.negative or other.negative else (),
    )


def _negatives(item: Item) -> tuple[str, ...]:
    return item.negative or ("",) * len(item.short)
