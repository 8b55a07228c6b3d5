"""What a set is made of: the rows that images.jsonl and texts.jsonl will hold, and how each image is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from eval.embeddings import NEGATIVE
from eval.file_names import spelled
from lrsclip_jax.data.band_image import AnyImage, seen
from lrsclip_jax.data.images import read_image
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources import Fault, Item, Keys, Source, open_source
from lrsclip_jax.sources.prepared import drawing, read_item
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
      read_bands: makes, of a model's preprocessing and a layout of files, such a function; None where images are RGB
        whichever model sees them.
      layout: the bands of files that do not name them, where the source is known to have such.
      scenes: of images that are windows, {name: {"height", "width", "file"}}.
      faults: rows of the source that make no image.
    """

    name: str
    split: str | None
    images: Sequence[Row]
    texts: Sequence[Row]
    read: Callable[[int], AnyImage]
    scenes: dict[str, Row] = field(default_factory=dict)
    faults: Sequence[Fault] = ()
    read_bands: Callable[[Preprocessing, Sequence[str]], Callable[[int], AnyImage]] | None = None
    layout: tuple[str, ...] = ()


def open_material(
    spec: str,
    keys: Keys | None = None,
    image_root: str | None = None,
    folders: Literal["known", "labels"] = "known",
) -> Material:
    """Opens what `spec` names, as `sources.open_source` does. Raises InputError for what can't be embedded."""
    return material_of(open_source(spec, keys, image_root, folders=folders))


def material_of(source: Source, strip_stops: bool = False, negatives: bool = False) -> Material:
    """Returns what a source holds. Of scenes with queries the whole scenes are the images, see `embed.windows`.

    `strip_stops` takes the full stop at its end, and spaces around it, from every short text that has other characters.
    With `negatives` the hard negatives of short texts are among the texts; InputError where there are none.
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
    if negatives:
        wrong = [text for item in items for text in _negatives(item)]
        if not wrong:
            raise InputError(f"{source.name}: --negatives: no text has a hard negative; --negative-key says where")
        texts += wrong
    if strip_stops:
        texts = [_without_stop(text) for text in texts]
    texts += [{"text": query.text, "kind": "query"} for query in source.queries]

    def read_bands(preprocessing: Preprocessing, layout: Sequence[str]) -> Callable[[int], AnyImage]:
        return lambda row: read_item(items[row], lambda image, name: seen(image, preprocessing, layout, name))

    def read(row: int) -> AnyImage:
        return read_item(items[row], lambda image, name: read_image(image, name=name))

    rows = list(map(_row, items))
    return Material(
        *(source.name, source.split, rows, texts, read), faults=faults, read_bands=read_bands, layout=source.layout
    )


def seen_by(material: Material, preprocessing: Preprocessing, layout: Sequence[str] = ()) -> Material:
    """Returns a material whose images are read as a model sees them: as RGB, or by the bands that it names.

    `layout` names the bands of files that do not, red, green and blue among them. Raises InputError for images that
    have no bands.
    """
    layout = layout or material.layout
    if not preprocessing.bands and not layout:
        return material
    if material.read_bands is None:
        raise InputError(f"{material.name}: its images are RGB, and the model reads {', '.join(preprocessing.bands)}")
    return replace(material, read=material.read_bands(preprocessing, layout))


def queries(path: str) -> list[Row]:
    """Returns a row of texts.jsonl for every line of a text file that holds something."""
    return [{"text": query.text, "kind": "query"} for query in read_texts(Path(path)).queries]


def _row(item: Item) -> Row:
    file = spelled(str(item.image)) if isinstance(item.image, Path) else None
    row = {"id": item.id, "label": item.label, "split": item.split, "file": file}
    return {name: value for name, value in row.items() if value is not None}


def _captions(item: Item) -> list[Row]:
    return [{"text": text, "kind": kind, "image": item.id} for kind in _KINDS for text in getattr(item, kind)]


def _negatives(item: Item) -> list[Row]:
    both = zip(item.short, item.negative, strict=True) if item.negative else ()
    return [{"text": wrong, "kind": NEGATIVE, "image": item.id, "whole": text} for text, wrong in both if wrong]


def _without_stop(row: Row) -> Row:
    fields = [name for name in ("text", "whole") if name in row and row["kind"] in ("short", NEGATIVE)]
    return {**row, **{name: row[name].rstrip(" .") or row[name] for name in fields}}
