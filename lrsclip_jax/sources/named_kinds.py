"""The formats that a corpus is read from, which users call by name: no path tells them apart.

`NAMED_KINDS` lists them. To add one, write its reader and give it a line there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from lrsclip_jax.data.images import SUFFIXES
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources import open_source
from lrsclip_jax.sources.annotations import boxes_csv, coco, dota, masks, voc
from lrsclip_jax.sources.item import Fault, Item
from lrsclip_jax.sources.listing import images_below
from lrsclip_jax.sources.published import lrs2m_json, remoteclip, rs5m, vhm
from lrsclip_jax.sources.published.evaluation_sets import EVALUATION_SETS
from lrsclip_jax.sources.published.opened import items_of
from lrsclip_jax.sources.row_keys import Keys
from lrsclip_jax.sources.row_values import clean_name


class NamedKind(NamedTuple):
    """A format.

    Attributes:
      help: a line about it.
      read: its reader; takes the path, the folder that paths of images are relative to, the name of the source, and
        the format's own options.
      texts: whether each of its images has a text or a label, where nothing is amiss.
      holds_images: whether images may lie inside its files; the folder may be None then.
    """

    help: str
    read: Callable[..., Iterator[Item | Fault]]
    texts: bool = False
    holds_images: bool = False

    def options(self) -> tuple[str, ...]:
        """Returns the names of the format's own options."""
        return tuple(inspect.signature(self.read).parameters)[3:]


def read_captions(
    path: Path, root: Path | None, source: str, keys: Keys | None = None, template: str | None = None
) -> Iterator[Item | Fault]:
    """Reads captions in all forms that `open_source` knows.

    `keys` say where rows hold what; `template` makes the short text of an image that has a label and no text.
    """
    opened = open_source(str(path), keys, root, template)
    if opened.queries:
        raise InputError(f"{path}: texts without images, captions of images are expected")
    return items_of(opened, source)


def read_images(path: Path, root: Path, source: str) -> Iterator[Item | Fault]:
    """Reads all images below a folder, without texts, in the order of their paths. None is opened."""
    empty = True
    for parts in images_below(path):
        empty, name = False, clean_name("/".join(parts))
        yield Item(name, source, path.joinpath(*parts), where=name)
    if empty:
        raise InputError(f"{path}: no images below it ({', '.join(SUFFIXES)})")


def read_prepared(path: Path, root: Path | None, source: str, only: str | None = None) -> Iterator[Item | Fault]:
    """Reads a prepared set, of mosaics with their tiles as things; `only` names the one split that is wanted."""
    from lrsclip_jax.sources.annotations import mosaic_regions  # TFDS, which no other kind needs

    return mosaic_regions.read(path, root, source, only)


NAMED_KINDS: dict[str, NamedKind] = {
    "captions": NamedKind(
        "captions in JSON, CSV, Parquet, WebDataset tars, Hugging Face's imagefolder, class folders",
        read_captions,
        texts=True,
        holds_images=True,
    ),
    "images": NamedKind("all images below a folder, without texts", read_images),
    "vhm": NamedKind("VHM's list_pretrain.json: long captions of six data sets", vhm.read, texts=True),
    "rs5m": NamedKind(
        "RS5M's WebDataset tars or CSV files: a short caption an image", rs5m.read, texts=True, holds_images=True
    ),
    "remoteclip": NamedKind(
        "RemoteCLIP's CSV lists of Det-10, Seg-4 and Ret-3: five short captions an image", remoteclip.read, texts=True
    ),
    "lrs2m": NamedKind(
        "JSON in the shape of LRS2M: image, long, short, with keys that can be renamed", lrs2m_json.read, texts=True
    ),
    "prepared": NamedKind(
        "a prepared set of lrsclip_jax.data.prepare or lrsclip_jax.data.mosaic", read_prepared, holds_images=True
    ),
    "coco": NamedKind("COCO's JSON of objects with boxes and outlines", coco.read),
    "voc": NamedKind("a folder of XML files: Pascal VOC's, HRSC2016's or FAIR1M's", voc.read),
    "dota": NamedKind("a folder of DOTA's label files with rotated boxes", dota.read),
    "masks": NamedKind("a folder of label PNGs with a class value a pixel, and the names of the values", masks.read),
    "boxes-csv": NamedKind("a CSV file with image_path, xmin, ymin, xmax, ymax, label", boxes_csv.read),
    **{name: NamedKind(f"{each.title}: {each.help}", each.read, texts=True) for name, each in EVALUATION_SETS.items()},
}
