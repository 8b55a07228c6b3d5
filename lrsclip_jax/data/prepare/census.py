"""The first reading of a source: what it holds, before hours are spent on its images."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources import TEMPLATE, Drawing, Fault, Item, Member, Source
from lrsclip_jax.sources.row_values import clean_name

_PROBED = 20  # images that are looked for before anything is written
_MOST_FAULTS = 10_000  # that are held while it is not known how many rows there are


class Census(NamedTuple):
    """What a list holds: the size of each split, a digest of the items, the rows that make none, any hard negatives."""

    sizes: dict[str, int]
    digest: str
    faults: list[Fault]
    negatives: bool


def take_census(source: Source, split: str, max_bad: int | None = None) -> Census:
    """Reads all of a source but its images.

    Raises InputError for no rows, for too many that can't be used (see `prepare`), where no image has a text, and where
    none of the first images exists.
    """
    sizes: Counter[str] = Counter()
    digest = hashlib.sha256()
    faults: list[Fault] = []
    probed: list[Path] = []
    labels = texts = negatives = False
    for item in tqdm(usable(source, split), desc="reading the list", unit=" records", leave=False, disable=None):
        if isinstance(item, Fault):
            faults.append(item)
            if max_bad is not None or len(faults) > _MOST_FAULTS + sizes.total():
                _check_faults(faults, len(faults) + sizes.total(), max_bad)
            continue
        sizes[item.split or split] += 1
        digest.update(_line(item).encode("utf-8", "surrogateescape"))
        labels = labels or item.label is not None
        drawn = isinstance(item.image, Drawing)
        texts = texts or bool(item.long or item.short) or drawn
        negatives = negatives or bool(item.negative) or drawn
        if isinstance(item.image, Path) and len(probed) < _PROBED:
            probed.append(item.image)
    _check_faults(faults, len(faults) + sizes.total(), max_bad)
    if not sizes:
        first = f", the first fault: {faults[0].where}: {faults[0].reason}" if faults else ""
        raise InputError(f"{source.name}: not a single record in it{first}")
    if labels and not texts:
        raise InputError(f"{source.name}: its images have labels and no texts: --template='{TEMPLATE}' makes them")
    if probed and not any(map(os.path.exists, probed)):
        raise InputError(
            f"{source.name}: none of the first {len(probed)} images exists, as {clean_name(str(probed[0]))}: "
            "set --image-root (or --image-key=FOLDER_KEY/FILE_KEY where the folder has a key of its own)"
        )
    return Census(dict(sizes), digest.hexdigest(), faults, negatives)


def bad_limit(total: int, max_bad: int | None) -> int:
    """Returns how many of all rows may be unusable: `max_bad`, by default the larger of 10 and 1 %."""
    return max(10, total // 100) if max_bad is None else max_bad


def _check_faults(faults: list[Fault], total: int, max_bad: int | None) -> None:
    if faults and len(faults) > bad_limit(total, max_bad):
        count = f"{len(faults):,} rows" if len(faults) > 1 else "a row"
        raise InputError(
            f"{faults[-1].where}: {faults[-1].reason} ({count} of {total:,} can't be used; --max-bad=N bears up to N)"
        )


def usable(source: Source, split: str) -> Iterator[Item | Fault]:
    """Yields what a source does, with a fault in place of an item whose split can't be one of a set."""
    known: set[str] = set()
    for item in source:
        name = split if isinstance(item, Fault) else item.split or split
        if name not in known:
            if not re.fullmatch(r"[A-Za-z0-9_]+", name):
                item = Fault(item.where, f"the split '{name:.60}' isn't letters, digits and _ alone", item.id)
            else:
                known.add(name)
        yield item


def _line(item: Item) -> str:
    """What the digest of a source takes of an item: as long as this stays, unfinished sets can be continued."""
    image = repr(item.image)
    if isinstance(item.image, Member):
        image = image.replace("Member(file=", "TarMember(tar=", 1)
    return (
        f"Item(id={item.id!r}, source={item.source!r}, image={image}, long={item.long!r}, short={item.short!r}, "
        f"label={item.label!r}, licence={item.licence!r}, split={item.split!r}, empty_texts={item.empty_texts!r})"
    ) + (f", negative={item.negative!r}" if item.negative else "")
