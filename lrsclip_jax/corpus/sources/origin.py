"""Where records come from, and how an annotated image becomes one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lrsclip_jax.corpus.records.clipping import clip
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside, Step, Thing
from lrsclip_jax.corpus.sources.pictures import size_of
from lrsclip_jax.errors import InputError

STAGE = "read"


@dataclass(frozen=True)
class Origin:
    """A source as it was named.

    Attributes:
      kind: the format.
      name: of the subset, where the rows themselves name none; ids begin with it.
      root: the folder that paths of images are relative to.
      licence, split: of records that bring none of their own.
    """

    kind: str
    name: str
    root: Path
    licence: str | None = None
    split: str | None = None

    def id(self, key: str) -> str:
        """Returns the id of a record that the source itself calls `key`."""
        return f"{self.name}/{key}"

    def step(self, detail: str) -> Step:
        """Returns the first step of a record's provenance."""
        return Step(STAGE, self.kind, detail)

    def set_aside(self, key: str, reason: str) -> SetAside:
        """Returns what becomes of a row that makes no record."""
        return SetAside(self.id(key), STAGE, reason)

    def annotated(
        self, image: Path, things: Iterable[Thing], where: str, said: tuple[int, int] | None = None, note: str = ""
    ) -> CorpusRecord | SetAside:
        """Returns the record of an annotated image, called by its path below the root.

        Boxes that reach over the edge are clipped, which the provenance counts. An image is set aside whole where one
        of its things is outside of it or has no area, or where the annotation was made for another size (`said`, width
        and height): captions made of the rest would be untrue. So it is for an InputError of the iterable `things`.
        """
        key = image.relative_to(self.root).as_posix() if image.is_relative_to(self.root) else image.name
        try:
            width, height = size_of(image)
            if said and said != (width, height):
                raise InputError(
                    f"{where}: made for an image of {said[0]} × {said[1]} pixels, {image} has {width} × {height}"
                )
            given = tuple(things)
            fitted = tuple(_fitted(thing, n, width, height, where) for n, thing in enumerate(given, 1))
        except InputError as error:
            return self.set_aside(key, str(error))
        clipped = sum(before != after for before, after in zip(given, fitted, strict=True))
        notes = (where, note, f"clipped at the edge: {clipped}" if clipped else "", "" if given else "no objects")
        return CorpusRecord(
            id=self.id(key),
            image=str(image),
            source=self.name,
            things=fitted,
            width=width,
            height=height,
            split=self.split,
            licence=self.licence,
            provenance=(self.step("; ".join(filter(None, notes))),),
        )


def _fitted(thing: Thing, number: int, width: int, height: int, where: str) -> Thing:
    """The thing, clipped to its image."""
    if thing.box is None:
        return thing
    x0, y0, x1, y1 = thing.box
    corners = (*thing.box, *(value for point in thing.polygon for value in point))
    if not all(map(math.isfinite, corners)) or x1 <= x0 or y1 <= y0:
        fault = "has no area"
    elif (inside := clip(thing, (0, 0, width, height))) is None:
        fault = f"is outside the image of {width} × {height} pixels"
    else:
        return inside
    box = ", ".join(f"{value:g}" for value in thing.box)
    raise InputError(f"{where}: object {number}, '{thing.name}', {fault} (box {box})")
