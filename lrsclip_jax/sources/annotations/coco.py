"""COCO's JSON of objects: images, annotations with boxes and outlines, and categories."""

from __future__ import annotations

import functools
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lrsclip_jax.data.images import size_of
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.annotations.annotated import Size, annotated, size_said
from lrsclip_jax.sources.annotations.outlines import Polygon
from lrsclip_jax.sources.annotations.run_lengths import is_run_lengths, outline_of_runs
from lrsclip_jax.sources.item import Fault, Item, Thing
from lrsclip_jax.sources.json_files import JsonLists
from lrsclip_jax.sources.json_scan import NOT_UTF8, STRAY, reason, scan
from lrsclip_jax.sources.row_values import clean, clean_name
from lrsclip_jax.sources.text_encoding import open_text


def read(path: Path, root: Path, source: str) -> Iterator[Item | Fault]:
    """Yields an item an image, and at the end a fault for each annotation of no image.

    A box [x, y, w, h] is as annotated. An object keeps its outline where that is one polygon, or a mask by run lengths;
    of one in several polygons, the box alone. Of a region marked as a crowd, whose objects nobody counted, the presence
    of its class alone is kept, which the note says. An image with an unknown category, or a malformed annotation, is a
    fault.

    The file is read once to learn where its images and annotations stand, and then image by image: some 50 bytes are
    held for each image and each annotation, next to the categories.
    """
    text = open_text(path)
    lists = JsonLists(path, text)
    names: dict[Any, str] = {}
    rows = {part: _Rows(key) for part, key in _PARTS.items()}
    last: _Rows | None = None
    for place, values in lists.rows():
        if last is not None:
            last.ends.append(place.offset)
        part = lists.key(place)
        last = rows.get(part)
        if last is not None:
            last.add(place.offset, values)
        if part == "categories":
            try:
                row = _object(values)
                key = _key(row, "id")
                names[key] = _name(row)
            except ValueError as error:
                yield Fault(clean(lists.where(place)), str(error))
    found = list(lists.members.values())
    if wrong := [part for part in _PARTS if found.count(part) != 1]:
        many = "comes twice" if wrong[0] in found else "is missing"
        raise InputError(f"{path}: no COCO JSON with lists {', '.join(_PARTS)} ('{wrong[0]}' {many})")
    with text.open() as file:
        yield from _joined(file, clean_name(path.name), rows["images"], rows["annotations"], names, root, source)


_PARTS = {"images": "id", "annotations": "image_id", "categories": "id"}


class _Rows:
    """Where rows stand in the file, and the hash of the image that each is or belongs to (0 where that is unclear)."""

    def __init__(self, key: str) -> None:
        self.starts, self.ends, self.hashes = array("q"), array("q"), array("q")
        self._key = key

    def add(self, offset: int, row: dict | str) -> None:
        self.starts.append(offset)
        try:
            self.hashes.append(hash(row[self._key]) if isinstance(row, dict) else 0)
        except (TypeError, KeyError):
            self.hashes.append(0)

    def read(self, file: BinaryIO, index: int) -> dict | str:
        """The row again, or why it is none. Up to the next row the file has only commas and brackets, or other keys."""
        file.seek(self.starts[index])
        end = self.ends[index] if index < len(self.ends) else None
        text = file.read(-1 if end is None else end - self.starts[index]).decode("utf-8", "surrogateescape")
        try:
            row, length = scan(text, 0)
        except (ValueError, RecursionError, StopIteration) as error:
            return reason(error)
        if STRAY.search(text, 0, length):
            return NOT_UTF8
        return row if isinstance(row, dict) else f"a {type(row).__name__} where an object is expected"


def _joined(
    file: BinaryIO,
    name: str,
    images: _Rows,
    annotations: _Rows,
    names: Mapping[Any, str],
    root: Path,
    source: str,
) -> Iterator[Item | Fault]:
    """Reads the images in their order, each with its annotations in theirs."""
    hashes = np.frombuffer(annotations.hashes, np.int64) if annotations.hashes else np.zeros(0, np.int64)
    order = np.argsort(hashes, kind="stable")
    sorted_hashes = hashes[order]
    claimed = np.zeros(len(hashes), bool)
    twins = _repeated(images.hashes)
    seen: set[Any] = set()  # ids of images whose hash comes again
    for index, hashed in enumerate(images.hashes):
        where = f"{name}, image {index + 1}"
        image = images.read(file, index)
        try:
            image = _object(image)
            key = _key(image, "id")
            path = root / _word(image, "file_name")
            said = size_said(image.get("width"), image.get("height"))
            if hashed in twins and key in seen:
                raise ValueError(f"its id {key!r:.40} is that of an earlier image")
        except ValueError as error:
            yield Fault(where, str(error))
            continue
        if hashed in twins:
            seen.add(key)
        mine = []
        first, last = np.searchsorted(sorted_hashes, hashed), np.searchsorted(sorted_hashes, hashed, "right")
        for place in order[first:last].tolist():
            row = annotations.read(file, place)
            if isinstance(row, dict) and row.get("image_id") == key:
                mine.append(row)
                claimed[place] = True
        crowds = sum(bool(row.get("iscrowd")) for row in mine)
        note = f"crowds left out: {crowds}" if crowds else ""
        things = _things(mine, names, name, functools.partial(_size, path, said))
        yield annotated(path, root, source, things, where, said, note)
    for place in np.flatnonzero(~claimed).tolist():
        row = annotations.read(file, place)
        where = _where(name, row) if isinstance(row, dict) else f"{name}, annotation number {place + 1}"
        try:
            yield Fault(where, f"its image {_key(_object(row), 'image_id')!r:.40} is not among the images")
        except ValueError as error:
            yield Fault(where, str(error))


def _repeated(hashes: array) -> set[int]:
    values, counts = np.unique(np.asarray(hashes, np.int64), return_counts=True)
    return set(values[counts > 1].tolist())


def _size(path: Path, said: Size | None) -> Size:
    """The size of an image that is there, and as large as is said: `annotated` reads no thing before."""
    return said or size_of(path)


def _things(
    rows: Sequence[dict], names: Mapping[Any, str], file: str, sized: Callable[[], Size]
) -> Iterator[Thing | Fault]:
    for row in rows:
        found = _thing(row, names, file, sized)
        yield Thing(found.name) if isinstance(found, Thing) and row.get("iscrowd") else found


def _thing(row: dict, names: Mapping[Any, str], file: str, sized: Callable[[], Size]) -> Thing | Fault:
    where = _where(file, row)
    category = row.get("category_id")
    if not isinstance(category, str | int | float) or category not in names:
        known = ", ".join(f"{str(key)[:40]} {name[:40]}" for key, name in list(names.items())[:20])
        return Fault(where, f"category {category!r:.40} is unknown; known: {known}")
    try:
        if not isinstance(row["bbox"], list):
            raise TypeError
        x, y, width, height = map(float, row["bbox"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return Fault(where, f"bbox is {row.get('bbox')!r:.60}, [x, y, width, height] is expected")
    segmentation = row.get("segmentation")
    try:
        outline = outline_of_runs(segmentation, sized()) if is_run_lengths(segmentation) else _outline(segmentation)
    except InputError as error:
        return Fault(where, str(error))
    return Thing(names[category], (x, y, x + width, y + height), outline)


def _outline(segmentation: Any) -> Polygon:
    if not isinstance(segmentation, list) or len(segmentation) != 1:
        return ()
    try:
        values = list(map(float, segmentation[0]))
        return tuple(zip(values[::2], values[1::2], strict=True)) if len(values) >= 6 else ()
    except (TypeError, ValueError, OverflowError):
        raise InputError("segmentation is no list of x and y") from None


def _where(file: str, row: Mapping[str, Any]) -> str:
    return f"{file}, annotation {clean(str(row.get('id')))[:40]}"


def _object(row: dict | str) -> dict:
    """The row; ValueError with the reason where it is none."""
    if isinstance(row, str):
        raise ValueError(row)
    return row


def _key(row: dict, name: str) -> str | int | float:
    """An id, which is a number or a text; ValueError where it is none."""
    key = row.get(name)
    if not isinstance(key, str | int | float):
        raise ValueError(f"'{name}' is {key!r:.40}, a number or a text is expected")
    return key


def _word(row: dict, name: str) -> str:
    word = row.get(name)
    if not isinstance(word, str) or not word:
        raise ValueError(f"'{name}' is {word!r:.40}, a text is expected")
    return word


def _name(category: dict) -> str:
    name = category.get("name")
    cleaned = clean(str(name)) if isinstance(name, str | int | float) else ""
    if not cleaned:
        raise ValueError(f"'name' is {name!r:.40}, the name of a class is expected")
    return cleaned
