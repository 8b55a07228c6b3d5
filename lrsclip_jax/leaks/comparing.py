"""Evaluation sets compared with training data: one pass over the training images for all of the sets."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from eval.leaks import Leaks, NearPair, TrainingSource
from lrsclip_jax.corpus.hygiene.leakage import nearest_training
from lrsclip_jax.embed.material import material_of
from lrsclip_jax.embed.naming import identity_of
from lrsclip_jax.errors import InputError
from lrsclip_jax.leaks.hashing import WHOLE, WITH_WINDOWS, hashed
from lrsclip_jax.leaks.pairs_page import ItemPair
from lrsclip_jax.sources import Fault, Item, Keys, Source, open_source
from lrsclip_jax.sources.prepared import drawing


class EvaluationSet(NamedTuple):
    """A source that was read, under the name that `lrsclip embed` gives it, and why rows of it make no image."""

    spec: str
    dataset: str
    split: str | None
    items: list[Item]
    unread: list[str]


class Compared(NamedTuple):
    """What was found for a set, and the items of the near pairs."""

    leaks: Leaks
    pairs: list[ItemPair]


@dataclass
class _Tally:
    """What was met of a training source."""

    images: int = 0
    unread: list[str] = field(default_factory=list)
    splits: set[str] = field(default_factory=set)


def evaluation_set(spec: str, keys: Keys, image_root: str | None) -> EvaluationSet:
    """Reads a source but for its images; InputError where it has none, or is evaluated by windows of scenes."""
    source = open_source(spec, keys, image_root, folders="known")
    if any(query.scene for query in source.queries):
        raise InputError(f"{spec}: scenes with queries are evaluated by their windows, which are not compared")
    unread: list[str] = []
    items = list(_items(source, unread))
    if not items:
        raise InputError(f"{spec}: no image in it to look for{_first(unread)}")
    return EvaluationSet(spec, identity_of(spec, material_of(source)).name, source.split, items, unread)


def compare(
    sets: Sequence[EvaluationSet], training: Mapping[str, Source], kept: Path, distance: int
) -> tuple[list[Compared], list[str]]:
    """Returns what was found for each set, and lines on what could not be compared.

    Args:
      sets: evaluation sets.
      training: opened sources by how the user named them.
      kept: a folder for hashes, which is there.
      distance: bits between the hashes of a near pair, at most.

    Raises:
      InputError: not one image of a set, or of a training source, can be read.
    """
    notes: list[str] = []
    readable, hashes = [], []
    for each in sets:
        unread = list(each.unread)
        with _bar("hashing evaluation images", len(each.items)) as bar:
            blocks = list(hashed(each.items, WITH_WINDOWS, kept, bar))
        unread += [reason for block in blocks for reason in block.unread]
        readable.append([item for block in blocks for item in block.items])
        hashes.append(np.concatenate([block.hashes for block in blocks]))
        notes += _of_unread(each.spec, unread, len(readable[-1]))

    tallies = {spec: _Tally() for spec in training}
    with _bar("hashing training images", sum(map(_count, training.values()))) as bar:
        named = _training(training, tallies, kept, bar)
        found = nearest_training(np.concatenate(hashes), named, distance)
    for spec, tally in tallies.items():
        notes += _of_unread(spec, tally.unread, tally.images)
        if training[spec].split is None and len(tally.splits) > 1:
            notes.append(f"{spec}: all of its splits count as training data: {', '.join(sorted(tally.splits))}")
    sources = [TrainingSource(spec, tally.images, len(tally.unread)) for spec, tally in tallies.items()]

    compared, rest = [], iter(found)
    for each, items in zip(sets, readable, strict=True):
        nearest = [(item, *near) for item, near in zip(items, itertools.islice(rest, len(items)), strict=True) if near]
        near = [NearPair(item.id, train.id, spec, bits) for item, (spec, train), bits in nearest]
        ids = [item.id for item in items]
        leaks = Leaks(each.dataset, each.split, each.spec, distance, sources, ids, near)
        compared.append(Compared(leaks, [ItemPair(item, train, bits) for item, (_, train), bits in nearest]))
    return compared, notes


def _training(
    training: Mapping[str, Source], tallies: Mapping[str, _Tally], kept: Path, bar: tqdm
) -> Iterator[tuple[list[tuple[str, Item]], np.ndarray]]:
    """Blocks of training images, each with its source, and their hashes."""
    for spec, source in training.items():
        tally = tallies[spec]
        for block in hashed(_items(source, tally.unread), WHOLE, kept, bar):
            tally.images += len(block.items)
            tally.unread += block.unread
            tally.splits.update(item.split for item in block.items if item.split)
            yield [(spec, item) for item in block.items], block.hashes[:, 0]


def _items(source: Source, unread: list[str]) -> Iterator[Item]:
    """The items of a source, procedural scenes drawn; reasons of faults are added to `unread`."""
    drawn = drawing()
    for item in source:
        if isinstance(item, Fault):
            unread.append(f"{item.where}: {item.reason}")
        else:
            yield drawn(item)


def _count(source: Source) -> int:
    """How many items a source has; lists are read for it."""
    if source.count is not None:
        return source.count
    reading = tqdm(source, f"reading {source.name}", unit=" items", leave=False, disable=None, delay=1)
    return sum(not isinstance(item, Fault) for item in reading)


def _of_unread(spec: str, unread: Sequence[str], read: int) -> list[str]:
    """A line on the images that could not be read; InputError where none could."""
    if not read:
        raise InputError(f"{spec}: not one image can be read{_first(unread)}")
    return [f"{spec}: {len(unread):,} images can't be read and are not compared{_first(unread)}"] if unread else []


def _first(unread: Sequence[str]) -> str:
    return f", the first: {unread[0]}" if unread else ""


def _bar(what: str, total: int) -> tqdm:
    return tqdm(total=total, desc=what, unit=" images", leave=False, disable=None, smoothing=0.05)
