"""Prepared sets with the tiles of mosaics as things: regions-SPLIT.jsonl next to the shards has their places."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from lrsclip_jax.data.prepared.records import split_names
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.annotations.outlines import bounds
from lrsclip_jax.sources.item import Box, Fault, Item, Thing
from lrsclip_jax.sources.json_files import json_lines
from lrsclip_jax.sources.prepared import read_prepared


def read(path: Path, root: Path | None, source: str, only: str | None = None) -> Iterator[Item | Fault]:
    """Reads a prepared set, split after split, or the split `only`; records keep the name of their own source.

    Of mosaics, as `lrsclip_jax.data.mosaic` writes them, every tile is a thing of the tile's class; none where the
    class of one tile is unknown. Raises InputError where it is no finished set, for a missing shard, and for regions
    that are torn or of other mosaics.
    """
    for split in [only] if only else split_names(path):
        regions = path / f"regions-{split}.jsonl"
        mosaics = _mosaics(regions) if regions.exists() else None
        for found in read_prepared(path, split).stream():
            mosaic, things = next(mosaics, (None, ())) if mosaics else (None, None)
            if isinstance(found, Fault) or mosaics is None:
                yield found
                continue
            if mosaic != found.id:
                raise InputError(f"{regions}: the regions of {found.id} are expected, found those of {mosaic}")
            yield replace(found, things=things)


def _mosaics(path: Path) -> Iterator[tuple[str, tuple[Thing, ...]]]:
    """The id of each mosaic, in the order of the records, with its tiles as things."""
    regions = (_region(where, row) for where, row in json_lines(path))
    for mosaic, rows in itertools.groupby(regions, key=lambda region: region[0]):
        tiles = [region[1:] for region in rows]
        things = tuple(Thing(label, box) for label, box in tiles if label)
        yield mosaic, things if len(things) == len(tiles) else ()


def _region(where: str, row: dict[str, Any] | Fault) -> tuple[str, str | None, Box]:
    if isinstance(row, Fault):
        raise InputError(f"{where}: {row.reason}")
    try:
        polygon = tuple((float(x), float(y)) for x, y in row["polygon"])
        return row["id"], row["label"], bounds(polygon)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: id, label and a polygon of numbers are expected ({error})") from None
