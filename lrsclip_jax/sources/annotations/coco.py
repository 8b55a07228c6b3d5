"""COCO's JSON of objects: images, annotations with boxes and outlines, and categories."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lrsclip_jax.data.sources import clean
from lrsclip_jax.sources.annotations.annotated import annotated, size_said
from lrsclip_jax.sources.annotations.json_arrays import elements, read_element
from lrsclip_jax.sources.item import Fault, Item, Thing


def read(path: Path, root: Path, source: str) -> Iterator[Item | Fault]:
    """Yields an item an image, and at the end a fault for each annotation of no image.

    A box [x, y, w, h] is as annotated. An object keeps its outline where that is one polygon; of one in several parts,
    or run-length encoded, the box alone. Regions marked as crowds are left out, which the note says. An image with an
    unknown category, or a malformed annotation, is a fault.

    The file is read once to learn where its images and annotations stand, and then image by image: some 50 bytes are
    held for each image and each annotation, next to the categories.
    """
    name = clean(path.name)
    names: dict[Any, str] = {}
    images, annotations = _Rows(), _Rows()
    categories = 0
    for part, offset, size, value in elements(path, ("images", "annotations", "categories"), "COCO JSON"):
        if part == "images":
            images.add(offset, size, value, "id")
        elif part == "annotations":
            annotations.add(offset, size, value, "image_id")
        else:
            categories += 1
            try:
                key = _key(value, "id")
                names[key] = _name(value)
            except ValueError as error:
                yield Fault(f"{name}, category {categories}", str(error))
    with open(path, "rb") as file:
        yield from _joined(file, name, images, annotations, names, root, source)


class _Rows:
    """Where rows stand in the file, and the hash of the image that each is or belongs to (0 where that is unclear)."""

    def __init__(self) -> None:
        self.offsets, self.sizes, self.hashes = array("q"), array("Q"), array("q")

    def add(self, offset: int, size: int, row: Any, key: str) -> None:
        self.offsets.append(offset)
        self.sizes.append(size)
        try:
            self.hashes.append(hash(row[key]))
        except (TypeError, KeyError):
            self.hashes.append(0)

    def read(self, file: BinaryIO, index: int) -> Any:
        """The row again; None where it is no JSON in UTF-8."""
        try:
            return read_element(file, self.offsets[index], self.sizes[index])
        except ValueError:
            return None


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
        things = (_thing(row, names, name) for row in mine if not row.get("iscrowd"))
        yield annotated(path, root, source, things, where, said, note)
    for place in np.flatnonzero(~claimed).tolist():
        row = annotations.read(file, place)
        try:
            reason = f"its image {_key(row, 'image_id')!r:.40} is not among the images"
        except ValueError as error:
            reason = str(error)
        yield Fault(_where(name, row) if isinstance(row, dict) else f"{name}, annotation number {place + 1}", reason)


def _repeated(hashes: array) -> set[int]:
    values, counts = np.unique(np.asarray(hashes, np.int64), return_counts=True)
    return set(values[counts > 1].tolist())


def _thing(row: dict, names: Mapping[Any, str], file: str) -> Thing | Fault:
    where = _where(file, row)
    category = row.get("category_id")
    if not isinstance(category, str | int | float) or category not in names:
        known = ", ".join(f"{str(key)[:40]} {name[:40]}" for key, name in list(names.items())[:20])
        return Fault(where, f"category {category!r:.40} is unknown; known: {known}")
    try:
        if not isinstance(row["bbox"], list):
            raise TypeError
        x, y, width, height = map(float, row["bbox"])
        outline = _outline(row.get("segmentation"))
    except (KeyError, TypeError, ValueError, OverflowError):
        return Fault(where, f"bbox is {row.get('bbox')!r:.60}, [x, y, width, height] is expected")
    if outline is None:
        return Fault(where, "segmentation is no list of x and y")
    return Thing(names[category], (x, y, x + width, y + height), outline)


def _outline(segmentation: Any) -> tuple[tuple[float, float], ...] | None:
    if not isinstance(segmentation, list) or len(segmentation) != 1:
        return ()
    try:
        values = list(map(float, segmentation[0]))
        return tuple(zip(values[::2], values[1::2], strict=True)) if len(values) >= 6 else ()
    except (TypeError, ValueError, OverflowError):
        return None


def _where(file: str, row: Mapping[str, Any]) -> str:
    return f"{file}, annotation {clean(str(row.get('id')))[:40]}"


def _key(row: Any, name: str) -> str | int | float:
    """An id, which is a number or a text; ValueError where it is none."""
    key = row.get(name) if isinstance(row, dict) else None
    if not isinstance(key, str | int | float):
        raise ValueError(f"no object with '{name}', a number or a text" if key is None else f"'{name}' is {key!r:.40}")
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
