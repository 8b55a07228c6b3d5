"""The tiles of mosaics as things: regions-SPLIT.jsonl next to a prepared set, as `data.mosaic` writes it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.annotations.clipping import bounds
from lrsclip_jax.sources.item import Box, Thing


def mosaic_things(path: Path) -> Iterator[tuple[str, tuple[Thing, ...]]]:
    """Yields the id of each mosaic, in the order of the records, with its tiles as things of the tiles' classes.

    A mosaic has no things where the class of one of its tiles is unknown. Raises InputError where a line is torn.
    """
    for mosaic, rows in itertools.groupby(_regions(path), key=lambda region: region[0]):
        regions = [region[1:] for region in rows]
        things = tuple(Thing(label, box) for label, box in regions if label)
        yield mosaic, things if len(things) == len(regions) else ()


def _regions(path: Path) -> Iterator[tuple[str, str | None, Box]]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                polygon = tuple((float(x), float(y)) for x, y in row["polygon"])
                yield row["id"], row["label"], bounds(polygon)
            except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
                raise InputError(
                    f"{path.name}, line {number}: id, label and a polygon of numbers are expected ({error})"
                ) from None
