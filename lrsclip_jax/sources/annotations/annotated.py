"""How an annotated image becomes an item: its things are fitted to it, and a fault where they can't be true."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lrsclip_jax.data.images import size_of
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.annotations.clipping import clip
from lrsclip_jax.sources.item import Fault, Item, Thing
from lrsclip_jax.sources.row_values import clean_name

Size = tuple[int, int]  # width, height in pixels


def annotated(
    image: Path,
    root: Path,
    source: str,
    things: Iterable[Thing | Fault],
    where: str,
    said: Size | None = None,
    note: str = "",
) -> Item | Fault:
    """Returns the item of an annotated image; its header is read. It is called by its path below `root`.

    Boxes that reach over the edge are clipped, and the item's note counts them. An image is a fault as a whole where
    one of its things is a fault, lies outside of it or has no area, or where the annotation was made for another size:
    captions made of the rest would be untrue.

    Args:
      image: its file, which may be missing.
      root: folder that paths of images are relative to.
      source: its name.
      things: what the annotation has, in pixels of the image; read only when the image's size is known.
      where: the annotation's file and line.
      said: the size that the annotation was made for, None where it says none.
      note: of what the reader left out.
    """
    key = clean_name(image.relative_to(root).as_posix() if image.is_relative_to(root) else image.name)
    try:
        size = size_of(image)
    except InputError as error:
        return Fault(where, str(error), key)
    if said and said != size:
        reason = f"made for an image of {said[0]} × {said[1]} pixels, {image} has {size[0]} × {size[1]}"
        return Fault(where, reason, key)
    fitted: list[Thing] = []
    clipped = 0
    for number, thing in enumerate(things, 1):
        if isinstance(thing, Fault):
            return replace(thing, id=key)
        inside = _fitted(thing, number, size)
        if isinstance(inside, str):
            return Fault(where, inside, key)
        fitted += inside
        clipped += inside != (thing,)
    notes = (note, f"clipped at the edge: {clipped}" if clipped else "", "" if fitted else "no objects")
    return Item(
        id=key,
        source=source,
        image=image,
        things=tuple(fitted),
        width=size[0],
        height=size[1],
        where=where,
        note="; ".join(filter(None, notes)),
    )


def size_said(width: Any, height: Any) -> Size | None:
    """Returns the size that an annotation names, or None where it names none: programs write 0 where they knew none.

    Raises InputError for what is no whole number.
    """
    sides = [_pixels(side) for side in (width, height)]
    return (sides[0], sides[1]) if all(sides) else None


def _pixels(side: Any) -> int:
    if side is None or side == "":
        return 0
    text = str(side) if isinstance(side, str) or (isinstance(side, int | float) and abs(side) < 1e9) else ""
    digits = text.strip().removesuffix(".0")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise InputError(f"a size of {repr(side)[:40] if text else type(side).__name__} is no whole number of pixels")
    return int(digits)


def _fitted(thing: Thing, number: int, size: Size) -> tuple[Thing, ...] | str:
    """The thing, clipped to its image, or why it can't be."""
    if thing.box is None:
        return (thing,)
    x0, y0, x1, y1 = thing.box
    corners = (*thing.box, *(value for point in thing.polygon for value in point))
    if not all(map(math.isfinite, corners)) or x1 <= x0 or y1 <= y0:
        fault = "has no area"
    elif inside := clip(thing, (0, 0, *size)):
        return inside
    else:
        fault = f"is outside the image of {size[0]} × {size[1]} pixels"
    box = ", ".join(f"{value:g}" for value in thing.box)
    return f"object {number}, '{thing.name}', {fault} (box {box})"
