"""Prepared sets, as `lrsclip_jax.data.prepare` and `lrsclip_jax.data.mosaic` write them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from lrsclip_jax.corpus.reading.extracting import extract, folder_for
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.corpus.sources.origin import Origin
from lrsclip_jax.data.prepared.records import Record, RecordReader, split_names
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.annotations.image_files import size_of
from lrsclip_jax.sources.annotations.mosaic_regions import mosaic_things

# How files of each format begin, and what their names end in.
_FORMATS = {
    b"\xff\xd8\xff": (".jpg", ".jpeg"),
    b"\x89PNG": (".png",),
    b"RIFF": (".webp",),
    b"II": (".tif", ".tiff"),
    b"MM": (".tif", ".tiff"),
}


def read(
    path: Path, origin: Origin, extract_to: str | None = None, only: str | None = None
) -> Iterator[CorpusRecord | SetAside]:
    """Reads a prepared set, split after split, record by record; memory is that of one.

    The bytes of an image become the file `extract_to`/SET/SPLIT/ID, unchanged. Of mosaics, whose regions-SPLIT.jsonl
    lies beside the shards, every tile is an object of the tile's class, unless the class of some tile is unknown.

    Args:
      path: of the set.
      origin: where it comes from.
      extract_to: folder for the images, which have to become files.
      only: the one split that is wanted.

    A torn record is set aside. Raises InputError where it is no finished set, for a missing shard, and for regions that
    are torn or of other mosaics.
    """
    if origin.split:
        raise InputError(f"{path}: its records have splits of their own, the option only='{origin.split}' reads one")
    folder = folder_for(path, extract_to) / path.name
    for split in [only] if only else split_names(path):
        yield from _of_split(RecordReader(path, split), origin, folder / split)


def _of_split(records: RecordReader, origin: Origin, folder: Path) -> Iterator[CorpusRecord | SetAside]:
    regions = records.folder / f"regions-{records.split}.jsonl"
    tiles = mosaic_things(regions) if regions.exists() else None
    for index in range(len(records)):
        where = f"{records.split}, record {index}"
        mosaic, things = next(tiles, (None, ())) if tiles else ("", ())
        try:
            record = records[index]
            image = extract(record.image, folder, _file_name(record))
            width, height = size_of(image)
        except InputError as error:
            yield origin.set_aside(where, str(error))
            continue
        if tiles and mosaic != record.id:
            raise InputError(f"{regions}: the regions of {record.id} are expected, found those of {mosaic}")
        yield CorpusRecord(
            id=origin.id(record.id),
            image=str(image),
            source=record.source,
            short=record.short,
            long=record.long,
            things=things,
            label=record.label,
            width=width,
            height=height,
            split=records.split,
            licence=record.licence or origin.licence,
            provenance=(origin.step(where),),
        )


def _file_name(record: Record) -> str:
    """The id as a path that stays in its folder, with a suffix that says what the bytes are."""
    parts = ["%2E%2E" if part == ".." else part for part in PurePosixPath(record.id).parts if part != "/"]
    name = "/".join(parts)
    suffixes = next((suffixes for start, suffixes in _FORMATS.items() if record.image.startswith(start)), ("",))
    return name if name.lower().endswith(suffixes) else name + suffixes[0]
