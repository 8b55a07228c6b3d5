"""Images with captions, in every form that `lrsclip_jax.data.sources` knows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from lrsclip_jax.corpus.reading.extracting import extract, folder_for
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.corpus.sources.origin import Origin
from lrsclip_jax.corpus.sources.rows import Rows, caption_records, json_lines, json_list, key_names, table
from lrsclip_jax.corpus.sources.tars import tar_files
from lrsclip_jax.data.formats import TarMember, json_layout
from lrsclip_jax.data.sources import TEMPLATE, Item, Keys, open_source
from lrsclip_jax.errors import InputError


def read(
    path: Path,
    origin: Origin,
    keys: Mapping[str, str] | None = None,
    template: str = TEMPLATE,
    extract_to: str | None = None,
) -> Iterator[CorpusRecord | SetAside]:
    """Reads JSON lists and lines, Karpathy's JSON, CSV and TSV, WebDataset tars and folders of class folders.

    Args:
      path: of the file or folder.
      origin: where it comes from.
      keys: under which key rows hold what (`data.sources.Keys`).
      template: the short text of an image in a class folder.
      extract_to: folder for the images of tars, which have to become files.

    Rows that repeat an image in a table become one record: a table is held whole, like Karpathy's JSON. The rest is
    streamed. In tars and class folders the first row that can't be read ends the reading with InputError.
    """
    suffix = path.suffix.lower()
    if path.is_dir() or tar_files(path):
        key_names(keys)
        folder = folder_for(path, extract_to) if tar_files(path) else None
        source = open_source(str(path), Keys(**(keys or {})), template=template)
        for item in source:
            yield _of_item(item, source.name, origin, folder)
    elif suffix in (".csv", ".tsv"):
        yield from merged(caption_records(table(path), key_names(keys, image="filepath", short="title"), origin))
    elif suffix in (".json", ".jsonl", ".ndjson"):
        layout = json_layout(path)
        if layout == "karpathy":
            names = key_names(keys, image="filename", short="sentences")
            yield from caption_records(_karpathy(path), names, origin)
        else:
            rows = json_lines(path) if layout == "lines" else json_list(path)
            yield from caption_records(rows, key_names(keys), origin)
    else:
        raise InputError(f"{path}: a .json, .jsonl, .csv or .tsv file, .tar files or class folders are expected")


def merged(records: Iterator[CorpusRecord | SetAside]) -> Iterator[CorpusRecord | SetAside]:
    """Yields a record an image, with the texts of all its rows, and first what was set aside. Holds all records."""
    of_image: dict[str, CorpusRecord] = {}
    for record in records:
        if isinstance(record, SetAside):
            yield record
            continue
        first = of_image.setdefault(record.image, record)
        if first is not record:
            texts = {"short": first.short + record.short, "long": first.long + record.long}
            of_image[record.image] = replace(first, **texts)
    yield from of_image.values()


def _of_item(item: Item, source: str, origin: Origin, folder: Path | None) -> CorpusRecord | SetAside:
    image, where = item.image, str(item.image)
    try:
        if isinstance(image, TarMember):
            image = extract(image, folder / image.tar.stem, image.name)
        if not (item.short or item.long or item.label):
            raise InputError(f"{where}: neither a text nor a label")
    except InputError as error:
        return origin.set_aside(item.id, str(error))
    return CorpusRecord(
        id=origin.id(item.id),
        image=str(image),
        source=origin.name if item.source == source else item.source,
        short=item.short,
        long=item.long,
        label=item.label,
        split=item.split or origin.split,
        licence=item.licence or origin.licence,
        provenance=(origin.step(where),),
    )


def _karpathy(path: Path) -> Rows:
    """{"images": [{"filename", "split", "sentences": [{"raw"}, …]}, …]}, COCO's folder `filepath` joined to it."""
    try:
        images = json.loads(path.read_bytes())["images"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: neither a list of records, nor JSON lines, nor a list 'images' ({error})") from None
    for number, row in enumerate(images, 1):
        where = f"{path.name}, image {number}"
        try:
            texts = [sentence["raw"] for sentence in row["sentences"]]
            folder = {"filename": f"{row['filepath']}/{row['filename']}"} if "filepath" in row else {}
            yield where, {**row, "sentences": texts, **folder}
        except (KeyError, TypeError):
            yield where, InputError(f"{where}: a filename and 'sentences' with a key 'raw' are expected")
