"""The layouts of JSON in which captions are published: Karpathy's, COCO's, NWPU-Captions', and plain rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.grouping import find_repeats, grouped
from lrsclip_jax.sources.item import Fault, Item
from lrsclip_jax.sources.json_files import JsonLines, JsonLists, json_layout
from lrsclip_jax.sources.lists import list_stream
from lrsclip_jax.sources.numbering import numbered
from lrsclip_jax.sources.row_keys import RowReader, row_reader
from lrsclip_jax.sources.rows import Place, Row
from lrsclip_jax.sources.source import Reading, Source, Stream
from lrsclip_jax.sources.text_encoding import TextFile, open_text


def read_json(path: Path, reading: Reading) -> Source:
    """Opens JSON lines, a list of rows, or an object with lists of rows in a known layout.

    Raises InputError for another layout, and for what is no JSON.
    """
    text = open_text(path)
    root = reading.image_root or path.parent
    layout = json_layout(path, text)
    if layout == "lines":
        stream = list_stream(JsonLines(path, text), path.stem, root, reading)
    else:
        lists = JsonLists(path, text)
        stream = list_stream(lists, path.stem, root, reading) if layout == "list" else _of_object(lists, root, reading)
    return Source(path.stem, stream, notes=(text.note,) if text.note else ())


def _of_object(lists: JsonLists, root: Path, reading: Reading) -> Stream:
    """The stream of an object, whose first row tells the layout."""
    name = lists.path.stem
    for place, row in lists.rows():
        key = lists.key(place)
        if not isinstance(row, dict):
            continue
        if key == "annotations" and isinstance(row.get("image"), str):  # FLAIR's: each annotation names its image
            return list_stream(replace(lists, only=("annotations",)), name, root, reading)
        if (key == "annotations" and "image_id" in row) or (key == "images" and {"id", "file_name"} <= row.keys()):
            return _coco(replace(lists, only=("images", "annotations")), name, root, reading)
        if key == "images":
            return list_stream(replace(lists, only=("images",)), name, root, reading)
        if "raw" in row and "filename" in row:
            flat = not (root / key).is_dir() and (root / str(row["filename"])).is_file()
            return list_stream(_NwpuCaptions(lists, flat), name, root, reading)
    raise InputError(f"{lists.path}: neither a list of records nor JSON lines nor an object with a list 'images'")


@dataclass(frozen=True)
class _NwpuCaptions:
    """NWPU-Captions: {class: [{"filename", "split", "raw", "raw_1", …, "raw_4"}, …]}, with a folder for each class."""

    lists: JsonLists
    flat: bool  # all images are in one folder

    @property
    def path(self) -> Path:
        return self.lists.path

    @property
    def text(self) -> TextFile:
        return self.lists.text

    def rows(self, start: Place | None = None, file: BinaryIO | None = None) -> Iterator[Row]:
        for place, row in self.lists.rows(start, file):
            if isinstance(row, dict):
                label = self.lists.key(place)
                image = row.get("filename")
                if isinstance(image, str) and not self.flat:
                    image = f"{label}/{image}"
                texts = [text for key, text in row.items() if key == "raw" or key.startswith("raw_")]
                row = {"image": image, "label": label, **row, "raw": texts, "filename": image}
            yield Row(place, row)

    def where(self, place: Place) -> str:
        return self.lists.where(place)


def _coco(file: JsonLists, name: str, root: Path, reading: Reading) -> Stream:
    """COCO's captions: {"images": [{"id", "file_name"}, …], "annotations": [{"image_id", "caption"}, …]}.

    An image is called by its file, not by its number. An annotation of an image that is not listed is a fault.
    """
    reader = row_reader(reading.keys, root, name, reading.template)
    captioned = False

    def key_of(row: dict[str, Any]) -> str | None:
        nonlocal captioned
        captioned = captioned or "caption" in row
        number = row.get("image_id", row.get("id"))
        return str(number) if isinstance(number, int | str) else None

    repeats = find_repeats(file, key_of)
    if not captioned:
        raise InputError(
            f"{file.path}: its annotations have no 'caption' (objects: python -m lrsclip_jax.corpus read coco)"
        )

    def stream() -> Iterator[Item | Fault]:
        for rows in grouped(file, key_of, repeats):
            yield from _of_coco_image(file, rows, reader)

    return lambda: numbered(stream())


def _of_coco_image(file: JsonLists, rows: Sequence[Row], reader: RowReader) -> Iterator[Item | Fault]:
    image: dict[str, Any] | None = None
    captions: list[str] = []
    place, faults, annotations = rows[0].place, [], []
    for row in rows:
        where = file.where(row.place)
        if isinstance(row.values, str):
            faults.append(Fault(where, row.values))
        elif file.key(row.place) == "annotations":
            annotations.append(where)
            if isinstance(caption := row.values.get("caption"), str):
                captions.append(caption)
            else:
                faults.append(Fault(where, f"'caption' is {caption!r:.60}, a text is expected"))
        elif image:
            faults.append(Fault(where, f"the id {row.values.get('id')!r:.60} comes again"))
        else:
            image, place = row.values, row.place
    if image:
        where = file.where(place)
        try:
            known = {key: given for key, given in image.items() if key not in ("id", "license")}
            item = reader.item({**known, "caption": captions}, where)
            size = {side: image[side] for side in ("width", "height") if isinstance(image.get(side), int)}
            yield replace(item, **size)
        except InputError as error:
            faults.append(Fault(where, str(error)))
    else:
        faults += [Fault(where, "no image has the id that it names") for where in annotations]
    yield from faults
