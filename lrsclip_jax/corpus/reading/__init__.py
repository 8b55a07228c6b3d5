"""Reads captions and annotations as they are published: records of a corpus, and what is set aside."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from eval.facts.classes import words
from lrsclip_jax.corpus.reading.item_records import Origin, of_item
from lrsclip_jax.corpus.reading.numbering import numbered
from lrsclip_jax.corpus.reading.renaming import renamed
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.corpus.rules.nouns import GROWS_TOGETHER
from lrsclip_jax.corpus.sources import captions, images, lrs2m, prepared, remoteclip, rs5m, vhm
from lrsclip_jax.corpus.sources import origin as old
from lrsclip_jax.corpus.sources.tars import tar_files
from lrsclip_jax.errors import InputError, nearest
from lrsclip_jax.sources.annotations import boxes_csv, coco, dota, masks, voc

__all__ = ["KINDS", "Kind", "numbered", "options_of", "read_source"]


class Kind(NamedTuple):
    """A format: a line of help, and its reader, whose further arguments are the format's options."""

    help: str
    read: Callable[..., Iterator[Any]]


KINDS: dict[str, Kind] = {
    "captions": Kind(
        "captions in JSON, JSON lines, CSV, Karpathy's JSON, WebDataset tars, class folders", captions.read
    ),
    "images": Kind("all images below a folder, without texts", images.read),
    "vhm": Kind("VHM's list_pretrain.json: long captions of six data sets", vhm.read),
    "rs5m": Kind("RS5M's WebDataset tars or CSV files: a short caption an image", rs5m.read),
    "remoteclip": Kind(
        "RemoteCLIP's CSV lists of Det-10, Seg-4 and Ret-3: five short captions an image", remoteclip.read
    ),
    "lrs2m": Kind("JSON in the shape of LRS2M: image, long, short, with keys that can be renamed", lrs2m.read),
    "prepared": Kind("a prepared set of lrsclip_jax.data.prepare or lrsclip_jax.data.mosaic", prepared.read),
    "coco": Kind("COCO's JSON of objects with boxes and outlines", coco.read),
    "voc": Kind("a folder of Pascal VOC's XML files", voc.read),
    "dota": Kind("a folder of DOTA's label files with rotated boxes", dota.read),
    "masks": Kind("a folder of label PNGs with a class value a pixel, and the names of the values", masks.read),
    "boxes-csv": Kind("a CSV file with image_path, xmin, ymin, xmax, ymax, label", boxes_csv.read),
}


_OLD = ("captions", "images", "vhm", "rs5m", "remoteclip", "lrs2m", "prepared")


def read_source(
    kind: str,
    path: str,
    *,
    name: str | None = None,
    image_root: str | None = None,
    licence: str | None = None,
    split: str | None = None,
    rename: Mapping[str, str] | None = None,
    **options: Any,
) -> Iterator[CorpusRecord | SetAside]:
    """Reads a source in its own order.

    Args:
      kind: its format, one of `KINDS`.
      path: of its file or folder.
      name: of the subset, where the rows themselves name none; by default the file's. All ids begin with it.
      image_root: folder that paths of images are relative to; by default that of the file or folder.
      licence, split: of records that bring none of their own.
      rename: classes of things and scenes that the corpus calls otherwise, such as {"Dead": "dead tree"}.
      options: of the format, see its reader.

    Yields:
      Records, with ids of which no two are the same (a digest of each is held in memory), and for every row or image
      that can't be used its reason, with the file and the line.

    Raises:
      InputError: an unknown kind or option, at once; what can't be read as a whole, when its turn comes.
    """
    if kind not in KINDS:
        raise InputError(f"source kind '{kind}' is unknown; known: {', '.join(KINDS)}{nearest(kind, KINDS)}")
    place = Path(path).expanduser().absolute()
    if not place.exists() and not tar_files(place):
        raise InputError(f"{path}: no such file or folder")
    root = Path(image_root).expanduser().absolute() if image_root else place if place.is_dir() else place.parent
    if not root.is_dir():
        raise InputError(f"the image root {image_root} is no folder")
    known = options_of(kind)
    for option in options:
        if option not in known:
            has = f"it has {', '.join(known)}" if known else "it has none of its own"
            raise InputError(f"source kind '{kind}' has no option '{option}', {has}{nearest(option, known)}")
    if kind in _OLD:
        records = KINDS[kind].read(place, old.Origin(kind, name or place.stem, root, licence, split), **options)
    else:
        if kind == "masks" and options.get("names"):
            # A patch of touching crowns is no tree; what is connected in a mask is one thing.
            options["names"] = {at: GROWS_TOGETHER.get(words(given), given) for at, given in options["names"].items()}
        origin = Origin(kind, name or place.stem, licence, split)
        items = KINDS[kind].read(place, root, origin.name, **options)
        records = (of_item(found, origin) for found in items)
    return numbered(renamed(records, rename, path) if rename else records)


def options_of(kind: str) -> tuple[str, ...]:
    """Returns the names of the options that a format has of its own: its reader's arguments."""
    return tuple(inspect.signature(KINDS[kind].read).parameters)[2 + (kind not in _OLD) :]
