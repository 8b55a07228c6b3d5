"""A source as it was opened, and what its opening may depend on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from lrsclip_jax.errors import InputError, nearest
from lrsclip_jax.sources.item import Fault, Item
from lrsclip_jax.sources.row_keys import Keys

TEMPLATE = "a satellite photo of {class}"  # LRSCLIP's one zero-shot prompt
_TRIED = 20
Stream = Callable[[], Iterator[Item | Fault]]


@dataclass(frozen=True)
class Reading:
    """How a source is to be read.

    Attributes:
      keys: where rows hold what.
      image_root: folder that paths of images in a list are relative to; None: the folder of the list.
      template: with "{class}" in it: the short text of an image that has a label and no text.
      folders: "known": subfolders are classes where they are those of a known data set; "labels": they always are;
        "captions": and a text is made of each name, by `template` or else TEMPLATE.
    """

    keys: Keys = field(default_factory=Keys)
    image_root: Path | None = None
    template: str | None = None
    folders: Literal["known", "labels", "captions"] = "captions"


class Query(NamedTuple):
    """A text that belongs to no item.

    text: on one line; scene: id of the item that it is about, and points: polygons [[[x, y], …], …] of what it means
    there, in pixels; for semantic localisation.
    """

    text: str
    scene: str | None = None
    points: list[list[list[float]]] | None = None


@dataclass(frozen=True)
class Source:
    """A stream of items and faults in the source's own order; it can be read again and again.

    Attributes:
      name: what messages and records call it.
      stream: begins to read; no id comes twice in it.
      split: the one split that was asked for, or None.
      notes: lines for a person: what was read otherwise than it seems, and what was left out.
      queries: texts of their own.
      layout: the bands of its images, in their order, where the files do not name them.
      count: its items, faults included, where they are known without reading it.
    """

    name: str
    stream: Stream
    split: str | None = None
    notes: tuple[str, ...] = ()
    queries: tuple[Query, ...] = ()
    layout: tuple[str, ...] = ()
    count: int | None = None

    def __iter__(self) -> Iterator[Item | Fault]:
        return self.stream()


def of_split(source: Source, split: str) -> Source:
    """Returns what a source has of one split. Where it has none, reading ends with InputError, naming the others."""

    def stream() -> Iterator[Item | Fault]:
        known: set[str] = set()
        for item in source.stream():
            if isinstance(item, Fault):
                yield item
                continue
            if item.split and len(known) < 100:
                known.add(item.split)
            if item.split == split:
                yield item
        if split not in known:
            names = ", ".join(sorted(known)) or "none"
            raise InputError(f"{source.name} has no split '{split}', it has {names}{nearest(split, known)}")

    return Source(source.name, stream, split, source.notes, source.queries, source.layout)


def check_first(stream: Iterator[Item | Fault]) -> None:
    """Raises InputError where none of a stream's first items can be used: it is not a single row that is wrong then."""
    first: Fault | None = None
    for item in itertools.islice(stream, _TRIED):
        if isinstance(item, Item):
            return
        first = first or item
    if first:
        raise InputError(f"{first.where}: {first.reason}")
