"""What a set is made of: the rows that images.jsonl and texts.jsonl will hold, and how each image is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from tqdm import tqdm

from eval.file_names import spelled
from lrsclip_jax.data.images import read_image
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources import Drawing, Fault, Item, Keys, Source, open_source
from lrsclip_jax.sources.prepared import drawing
from lrsclip_jax.sources.row_values import clean_name
from lrsclip_jax.sources.texts import read_texts

Row = dict[str, Any]
_KINDS = ("long", "short")


@dataclass(frozen=True)
class Material:
    """What a source holds.

    Attributes:
      name: of the data set.
      split: the one split that was asked for, or None.
      images: rows of images.jsonl.
      texts: rows of texts.jsonl.
      read: gives the image of a row of `images`; InputError where it can't be read. Threads call it, about in order.
      scenes: of images that are windows, {name: {"height", "width", "file"}}.
      faults: rows of the source that make no image.
    """

    name: str
    split: str | None
    images: Sequence[Row]
    texts: Sequence[Row]
    read: Callable[[int], Image.Image]
    scenes: dict[str, Row] = field(default_factory=dict)
    faults: Sequence[Fault] = ()


def open_material(
    spec: str,
    keys: Keys | None = None,
    image_root: str | None = None,
    folders: Literal["known", "labels"] = "known",
) -> Material:
    """Opens what `spec` names, as `sources.open_source` does. Raises InputError for what can't be embedded."""
    return material_of(open_source(spec, keys, image_root, folders=folders))


def material_of(source: Source, strip_stops: bool = False) -> Material:
    """Returns what a source holds. Of scenes with queries the whole scenes are the images, see `embed.windows`.

    `strip_stops` takes the full stop at its end, and spaces around it, from every short text that has other characters.
    """
    items: list[Item] = []
    faults: list[Fault] = []
    drawn = drawing()
    for item in tqdm(source, f"reading {source.name}", unit=" items", leave=False, disable=None, delay=1):
        if isinstance(item, Fault):
            faults.append(item)
        else:
            items.append(drawn(item))
    if not items and not source.queries:
        raise InputError(f"{source.name}: no images in it")
    texts = [text for item in items for text in _captions(item)]
    if strip_stops:
        texts = [_without_stop(text) for text in texts]
    texts += [{"text": query.text, "kind": "query"} for query in source.queries]
    return Material(
        source.name, source.split, list(map(_row, items)), texts, lambda row: _read(items[row]), faults=faults
    )


def queries(path: str) -> list[Row]:
    """Returns a row of texts.jsonl for every line of a text file that holds something."""
    return [{"text": query.text, "kind": "query"} for query in read_texts(Path(path)).queries]


def _row(item: Item) -> Row:
    file = spelled(str(item.image)) if isinstance(item.image, Path) else None
    row = {"id": item.id, "label": item.label, "split": item.split, "file": file}
    return {name: value for name, value in row.items() if value is not None}


def _captions(item: Item) -> list[Row]:
    return [{"text": text, "kind": kind, "image": item.id} for kind in _KINDS for text in getattr(item, kind)]


def _without_stop(row: Row) -> Row:
    shorter = row["text"].rstrip(" .") if row["kind"] == "short" else ""
    return {**row, "text": shorter} if shorter else row


def _read(item: Item) -> Image.Image:
    image = item.image
    assert not isinstance(image, Drawing)
    name = clean_name(str(image))
    try:
        return read_image(image if isinstance(image, Path) else image.read_bytes(), name=name)
    except OSError as error:
        raise InputError(f"{name}: image can't be read ({error.strerror})") from None
