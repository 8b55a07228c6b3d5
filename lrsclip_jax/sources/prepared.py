"""Prepared sets and the embedded scenes: records that were read once before."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Drawing, Entry, Fault, Item
from lrsclip_jax.sources.numbering import numbered
from lrsclip_jax.sources.row_values import clean_name
from lrsclip_jax.sources.source import Source

if TYPE_CHECKING:
    from lrsclip_jax.data.prepared.records import Record

T = TypeVar("T")


def read_prepared(path: Path, split: str | None) -> Source:
    """Opens a set that `lrsclip_jax.data.prepare` or `lrsclip_jax.data.mosaic` made: one split, or one after the other.

    A record that can't be read is a fault. Raises InputError for a split or a shard that is missing.
    """
    from lrsclip_jax.data.prepared.opening import open_records  # TensorFlow Datasets, which other kinds do without
    from lrsclip_jax.data.prepared.records import split_names

    parts = {name: open_records(f"{path}:{name}") for name in ([split] if split else split_names(path))}

    def stream() -> Iterator[Item | Fault]:
        for name, records in parts.items():
            for index in range(len(records)):
                where = f"{name}, record {index}"
                try:
                    record = records[index]
                except InputError as error:
                    yield Fault(where, str(error))
                    continue
                yield Item(
                    record.id,
                    record.source,
                    Entry(records, index, record.id),
                    record.long,
                    record.short,
                    record.label,
                    record.licence,
                    name,
                    where=where,
                    negative=record.negative or (),
                )

    held = next(iter(parts.values())).band_set()
    layout, count = held.bands if held else (), sum(map(len, parts.values()))
    return Source(path.name, lambda: numbered(stream()), split, layout=layout, count=count)


def read_scenes(spec: str) -> Source:
    """Opens "scenes:COUNT[:SEED]". The items are still to be drawn, and their texts come with the drawings."""
    from lrsclip_jax.data.prepared.opening import open_records

    count = len(open_records(spec))
    seed = int([*spec.split(":"), "0"][2])

    def stream() -> Iterator[Item | Fault]:
        for index in range(count):
            yield Item(f"scene-{seed}-{index}", "scenes", Drawing(seed, index))

    return Source("scenes", stream, count=count)


def drawing() -> Callable[[Item], Item]:
    """Returns a function that gives a procedural scene its image, as it is embedded for training, and its texts.

    Other items stay as they are. Scenes that were drawn are held, encoded.
    """
    of_seed: dict[int, Sequence[Record]] = {}

    def drawn(item: Item) -> Item:
        if not isinstance(item.image, Drawing):
            return item
        from lrsclip_jax.data.prepared.procedural import SceneRecords

        seed, index = item.image
        records = of_seed.setdefault(seed, SceneRecords(sys.maxsize, seed))
        record = records[index]
        image, negative = Entry(records, index, item.id), record.negative or ()
        texts = record.long, record.short
        return Item(item.id, item.source, image, *texts, record.label, record.licence, negative=negative)

    return drawn


def read_item(item: Item, reader: Callable[[bytes | Path, str], T]) -> T:
    """Returns what a reader of files and bytes, such as `data.images.read_image`, makes of an item's image.

    Args:
      item: no scene that is still to be drawn, see `drawing`.
      reader: takes the image and its name for messages.

    Raises:
      InputError: the image can't be read.
    """
    image = item.image
    assert not isinstance(image, Drawing)
    name = clean_name(str(image))
    try:
        return reader(image if isinstance(image, Path) else image.read_bytes(), name)
    except OSError as error:
        raise InputError(f"{name}: image can't be read ({error.strerror})") from None


def read_record(item: Item) -> Record:
    """Returns an item as a record: the bytes of its image as they are, and token ids where a prepared set has them.

    Raises InputError where the image can't be read. The item is no scene that is still to be drawn, see `drawing`.
    """
    from lrsclip_jax.data.prepared.records import Record

    image = item.image
    assert not isinstance(image, Drawing)
    if isinstance(image, Entry):
        return image.records[image.index]
    try:
        data = image.read_bytes()
    except OSError as error:
        raise InputError(f"{clean_name(str(image))}: image can't be read ({error.strerror})") from None
    return Record(item.id, item.source, data, item.long, item.short, item.label, item.licence)
