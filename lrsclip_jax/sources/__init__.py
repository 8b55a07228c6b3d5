"""The one door for captioned images: recognises what users point at, and reads it as a stream of items and faults.

`KINDS` lists the formats, in the order in which they are tried. To add one, write its reader and give it a line there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from lrsclip_jax.data.images import SUFFIXES
from lrsclip_jax.data.remote import is_address
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.air_slt import read_air_slt
from lrsclip_jax.sources.folders import read_eurosat_ms, read_folder, read_imagefolder
from lrsclip_jax.sources.hub_datasets import SCHEME, read_hub_dataset
from lrsclip_jax.sources.item import Cell, Drawing, Entry, Fault, Image, Item, Member, Thing
from lrsclip_jax.sources.json_kinds import read_json
from lrsclip_jax.sources.listing import metadata_files, parquet_files, tar_files
from lrsclip_jax.sources.numbering import numbered
from lrsclip_jax.sources.prepared import read_prepared, read_scenes
from lrsclip_jax.sources.published.evaluation_sets import EVALUATION_SETS
from lrsclip_jax.sources.remote_tars import read_remote
from lrsclip_jax.sources.row_keys import Keys
from lrsclip_jax.sources.source import TEMPLATE, Query, Reading, Source, check_first, of_split
from lrsclip_jax.sources.tables import read_table
from lrsclip_jax.sources.tars import read_tars
from lrsclip_jax.sources.texts import read_texts

__all__ = [
    "KINDS",
    "TEMPLATE",
    "Cell",
    "Drawing",
    "Entry",
    "Fault",
    "Image",
    "Item",
    "Keys",
    "Kind",
    "Member",
    "Named",
    "Query",
    "Reading",
    "Source",
    "Thing",
    "open_source",
]


_SCHEMES = ("scenes:", "air-slt:", "eurosat-ms:", SCHEME)  # what is no path, and has no split at its end


class Named(NamedTuple):
    """What a user wrote: `text`, or an address without its split; the path, the split, an evaluation set's name."""

    text: str
    path: Path
    split: str | None
    set: str | None = None


class Kind(NamedTuple):
    """A format.

    help: a line about it; recognises: whether it is what was named; read: opens it.
    lists: whether images are named by paths, which `image_root` is for.
    """

    help: str
    recognises: Callable[[Named], bool]
    read: Callable[[Named, Reading], Source]
    lists: bool = False


def _read_parquet(path: Path, reading: Reading) -> Source:
    from lrsclip_jax.sources.parquet import read_parquet  # pyarrow, which no other kind needs

    return read_parquet(path, reading)


def _read_evaluation_set(named: Named, reading: Reading) -> Source:
    assert named.set
    known = EVALUATION_SETS[named.set]
    if chosen := next(iter(reading.keys.chosen()), None):
        raise InputError(f"{named.text}: its keys are known: leave out --{chosen}-key")

    split = named.split or known.split
    only = {"only": split} if known.skips() else {}

    def stream() -> Iterator[Item | Fault]:
        return numbered(known.read(named.path, reading.image_root, known.title, **only))

    check_first(stream())
    source = Source(known.title, stream, split if only else None)
    return of_split(source, split) if split and not only else source


KINDS: dict[str, Kind] = {
    "scenes": Kind(
        "scenes:COUNT[:SEED]: procedural scenes",
        lambda named: named.text.startswith(_SCHEMES[0]),
        lambda named, _: read_scenes(named.text),
    ),
    "air-slt": Kind(
        "air-slt:FOLDER: anno.json and the scenes of semantic localisation",
        lambda named: named.text.startswith(_SCHEMES[1]),
        lambda named, _: read_air_slt(named.text.partition(":")[2]),
    ),
    "hub data set": Kind(
        "hf-datasets:OWNER/NAME[:CONFIG][:SPLIT]: a data set of the Hugging Face Hub, with .[datasets]",
        lambda named: named.text.startswith(SCHEME),
        lambda named, reading: read_hub_dataset(named.text, reading),
    ),
    "remote tars": Kind(
        "WebDataset .tar files at addresses, https://HOST/x-{000..099}.tar, also of http, gs and s3",
        lambda named: is_address(named.text),
        lambda named, reading: read_remote(named.text, reading),
    ),
    "evaluation set": Kind(
        f"NAME:PATH, of NAME {', '.join(EVALUATION_SETS)}: a set of long texts as it is published",
        lambda named: named.set is not None,
        _read_evaluation_set,
        lists=True,
    ),
    "eurosat-ms": Kind(
        "eurosat-ms:FOLDER: the 13-band EuroSAT, class folders of TIFFs that do not name their bands",
        lambda named: named.text.startswith(_SCHEMES[2]),
        lambda named, reading: read_eurosat_ms(named.text.partition(":")[2], reading),
    ),
    "prepared": Kind(
        "a prepared set",
        lambda named: os.path.isfile(named.path / "dataset_info.json"),
        lambda named, _: read_prepared(named.path, named.split),
    ),
    "texts": Kind(
        "a .txt file of texts, one a line",
        lambda named: named.path.suffix.lower() == ".txt",
        lambda named, _: replace(read_texts(named.path), split=named.split),
    ),
    "table": Kind(
        "a .csv or .tsv file with a header; an image may have several rows",
        lambda named: named.path.suffix.lower() in (".csv", ".tsv"),
        lambda named, reading: read_table(named.path, reading),
        lists=True,
    ),
    "json": Kind(
        "a .json, .jsonl, .jsonlines or .ndjson file: rows, or as Karpathy, COCO's captions or NWPU-Captions have them",
        lambda named: named.path.suffix.lower() in (".json", ".jsonl", ".jsonlines", ".ndjson"),
        lambda named, reading: read_json(named.path, reading),
        lists=True,
    ),
    "parquet": Kind(
        "a .parquet file or a folder of them, with paths of images or their bytes",
        lambda named: bool(parquet_files(named.path)),
        lambda named, reading: _read_parquet(named.path, reading),
        lists=True,
    ),
    "tars": Kind(
        "WebDataset .tar files: one, a folder of them, or a quoted pattern",
        lambda named: bool(tar_files(named.path)),
        lambda named, reading: read_tars(named.path, reading),
    ),
    "imagefolder": Kind(
        "a folder of images with a metadata.jsonl or metadata.csv (Hugging Face)",
        lambda named: bool(metadata_files(named.path)),
        lambda named, reading: read_imagefolder(named.path, reading),
    ),
    "folder": Kind(
        "a folder of class folders, or of images",
        lambda named: os.path.isdir(named.path),
        lambda named, reading: read_folder(named.path, reading),
    ),
}


def open_source(
    spec: str,
    keys: Keys | None = None,
    image_root: str | os.PathLike[str] | None = None,
    template: str | None = None,
    folders: Literal["known", "labels", "captions"] = "captions",
) -> Source:
    """Opens what a user named: a file, a folder, a pattern of tars ("train-*.tar"), "scenes:COUNT", "docci:FOLDER", ….

    Args:
      spec: all of a source, or with ":SPLIT" at its end one split.
      keys: where rows hold what.
      image_root: folder that paths in a list are relative to, by default the folder of the list.
      template, folders: see `Reading`.

    A list is read once, to find where its images come again; texts stay on disk.

    Raises:
      InputError: nothing of that name, or not recognised; what can't be read as a whole. Rows that can't be used are
        faults in the stream.
    """
    named = _named(spec)
    here = spec.startswith(_SCHEMES) or is_address(spec)
    if not (here or os.path.exists(named.path) or tar_files(named.path)):
        raise InputError(f"{spec:.200}: no such file or folder")
    for kind in KINDS.values():
        if kind.recognises(named):
            break
    else:
        known = "; ".join(kind.help for kind in KINDS.values())
        if named.path.suffix.lower() in SUFFIXES:
            raise InputError(f"{spec} is one image: name its folder, or a list that has it")
        raise InputError(f"{spec}: not recognised; expected one of: {known}")
    if image_root and not kind.lists:
        raise InputError(f"{spec} holds its images itself: leave out --image-root, which is for lists of images")
    reading = Reading(keys or Keys(), _folder(image_root), template, folders)
    source = kind.read(named, reading)
    return of_split(source, named.split) if named.split and source.split is None else source


def _named(spec: str) -> Named:
    if not spec:
        raise InputError("the name of the source is empty: a file or folder is expected")
    path = _expanded(spec)
    if spec.startswith(_SCHEMES) or os.path.exists(path):
        return Named(spec, path, None)
    start, _, rest = spec.partition(":")
    if start in EVALUATION_SETS:
        return _named(rest)._replace(text=spec, set=start)
    start, separator, split = spec.rpartition(":")
    if not separator or "/" in split or not start:
        return Named(spec, path, None)
    return Named(start if is_address(start) else spec, _expanded(start), split)


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:  # ~somebody
        raise InputError(f"{path}: no such home folder") from None


def _folder(image_root: str | os.PathLike[str] | None) -> Path | None:
    if image_root is None:
        return None
    root = _expanded(os.fspath(image_root))
    if not root.is_dir():
        raise InputError(f"the image root {image_root} is no folder")
    return root
