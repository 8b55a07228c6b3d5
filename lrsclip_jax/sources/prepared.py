"""Prepared sets and the embedded scenes: records that were read once before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Drawing, Entry, Fault, Item
from lrsclip_jax.sources.source import Source


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
                )

    return Source(path.name, stream, split)


def read_scenes(spec: str) -> Source:
    """Opens "scenes:COUNT[:SEED]". The items are still to be drawn, and their texts come with the drawings."""
    from lrsclip_jax.data.prepared.opening import open_records

    count = len(open_records(spec))
    seed = int([*spec.split(":"), "0"][2])

    def stream() -> Iterator[Item | Fault]:
        for index in range(count):
            yield Item(f"scene-{seed}-{index}", "scenes", Drawing(seed, index))

    return Source("scenes", stream)
