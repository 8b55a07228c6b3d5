"""Under which keys rows hold what, and how a row becomes an item."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from eval.file_names import named
from lrsclip_jax.data.images import SUFFIXES
from lrsclip_jax.errors import InputError, nearest
from lrsclip_jax.sources.item import Cell, Item, Member
from lrsclip_jax.sources.row_values import (
    ABSENT,
    NAMES_OF_LABELS,
    can_be_path,
    caption_of_label,
    clean,
    clean_name,
    label_under,
    texts_under,
    value,
    word_under,
)


@dataclass(frozen=True)
class Keys:
    """Under which key a row holds what; None stands for the usual ones (`USUAL`).

    "a.0.b" reaches into nested objects and lists. An image key "folder/file" joins the values of several keys
    to a path.
    """

    image: str | None = None
    long: str | None = None
    short: str | None = None
    id: str | None = None
    label: str | None = None
    licence: str | None = None
    split: str | None = None
    source: str | None = None
    negative: str | None = None

    def chosen(self) -> dict[str, str]:
        """Returns the keys that were given."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: key for name, key in given.items() if key is not None}


_MOST_SHAPES = 256  # rows of a file have about the same keys
# In order of preference. A caption is a short text unless a key says otherwise.
USUAL: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "filepath", "file_name", "filename", "image_path"),
    "long": ("long",),
    "short": ("short", "caption", "captions", "text", "title", "sentences", "raw"),
    "id": ("id",),
    "label": ("label", "class", "cls", *NAMES_OF_LABELS),
    "licence": ("licence",),
    "split": ("split",),
    "source": ("source",),
    "negative": (),  # a column of this name may be anything
}


class MissingKey(InputError):
    """A row has no key of the image, or neither a key of texts nor a label."""


class RowReader(NamedTuple):
    """What rows are read with. Neither function says where a row stands when it raises.

    Attributes:
      item: gives the item of a row, and takes where it stands. Raises MissingKey, and InputError for a value of another
        type than is expected.
      image: gives a row's image alone: its path as the row has it, or the place of its bytes. Raises the same.
    """

    item: Callable[[Mapping[str, Any], str], Item]
    image: Callable[[Mapping[str, Any]], str | Member | Cell]


def row_reader(keys: Keys, root: Path, source: str, template: str | None = None) -> RowReader:
    """Returns what makes items of rows.

    Args:
      keys: where rows hold what.
      root: folder that paths of images are relative to.
      source: of items whose row names none.
      template: with "{class}" for the words of the label: the short text of a row without texts.
    """
    chosen = keys.chosen()
    of_shape: dict[tuple[str, ...], _Names] = {}

    def names_of(row: Mapping[str, Any]) -> _Names:
        shape = tuple(row)
        names = of_shape.get(shape)
        if names is None:
            if len(of_shape) == _MOST_SHAPES:
                of_shape.clear()
            names = of_shape[shape] = _names(row, chosen)
        return names

    def image_of(row: Mapping[str, Any]) -> str | Member | Cell:
        return _image(row, names_of(row).image)

    def item(row: Mapping[str, Any], where: str) -> Item:
        names = names_of(row)
        image = _image(row, names.image)
        words = {field: word_under(row, keys) for field, keys in names.words}
        label = label_under(row, names.label) if names.label else None
        long, short = texts_under(row, names.long), texts_under(row, names.short)
        if long is None and short is None and label is None:
            raise _no_texts(row, chosen)
        long, short, empty = long or (), short or (), 0
        negative = _negatives(row, names.negative, short) if names.negative else ()
        if "" in long or "" in short:
            empty = long.count("") + short.count("")
            negative = tuple(wrong for text, wrong in zip(short, negative, strict=False) if text)
            long, short = tuple(filter(None, long)), tuple(filter(None, short))
        if template and label and not long and not short:
            short = (caption_of_label(label, template),)
        return Item(
            words.get("id") or clean_name(named(str(image))),
            words.get("source") or source,
            root / named(image) if isinstance(image, str) else image,
            long,
            short,
            label,
            words.get("licence"),
            words.get("split"),
            where=where,
            empty_texts=empty,
            negative=negative,
        )

    return RowReader(item, image_of)


class AskedKeys:
    """The keys that were asked for, as long as no row has had them."""

    def __init__(self, keys: Keys):
        self._unseen = keys.chosen()
        self._found: dict[str, None] = {}

    def see(self, row: Mapping[str, Any]) -> None:
        """Looks at a row."""
        if self._unseen:
            if len(self._found) < _MOST_SHAPES:
                self._found |= dict.fromkeys(row)
            here = [name for name, key in self._unseen.items() if value(row, key, name == "image") is not ABSENT]
            for name in here:
                del self._unseen[name]

    def check(self, source: str) -> None:
        """Raises InputError where a key was asked for that no row has had, unless there were no rows."""
        if self._unseen and self._found:
            name, key = next(iter(self._unseen.items()))
            raise InputError(
                f"{source}: no record has the key '{key}' that --{name}-key names, keys found: "
                f"{_names_found(self._found)}{nearest(key, map(clean, self._found))}"
            )


class _Names(NamedTuple):
    """The keys of rows of one shape: for each purpose those that may hold it, in order of preference."""

    image: tuple[str, ...]
    long: tuple[str, ...]
    short: tuple[str, ...]
    label: tuple[str, ...]
    negative: tuple[str, ...]
    words: tuple[tuple[str, tuple[str, ...]], ...]  # id, licence, split, source, as far as rows have them


def _names(row: Mapping[str, Any], chosen: Mapping[str, str]) -> _Names:
    names = {name: _candidates(row, name, chosen.get(name)) for name in USUAL}
    for other, name in (("long", "short"), ("short", "long")):
        if other in chosen and name not in chosen:
            names[name] = tuple(key for key in names[name] if key != chosen[other])
    words = tuple((name, names[name]) for name in ("id", "licence", "split", "source") if names[name])
    return _Names(names["image"], names["long"], names["short"], names["label"], names["negative"], words)


def _negatives(row: Mapping[str, Any], names: tuple[str, ...], short: Sequence[str]) -> tuple[str, ...]:
    """The hard negative of each short text, "" for none; one that is the text itself is none."""
    found = texts_under(row, names) or ()
    if not any(found):
        return ()
    if len(found) != len(short):
        raise InputError(f"'{names[0]}' holds {len(found)} texts for {len(short)} short ones: one for each is expected")
    return tuple("" if wrong == text else wrong for text, wrong in zip(short, found, strict=True))


def _names_found(row: Iterable[str]) -> str:
    return clean(f"{', '.join(map(str, row)):.400}")


def _candidates(row: Mapping[str, Any], name: str, chosen: str | None) -> tuple[str, ...]:
    return (chosen,) if chosen else tuple(key for key in USUAL[name] if key in row)


def _image(row: Mapping[str, Any], names: tuple[str, ...]) -> str | Member | Cell:
    if len(names) == 1:
        name = names[0]
        image = row[name] if name in row else value(row, name, path=True)
    else:
        image = _likeliest_image(row, names)
    if isinstance(image, str):
        if image and (image.isprintable() or can_be_path(image)):
            return image
    elif isinstance(image, Member | Cell):
        return image
    elif image is ABSENT:
        wanted = names[0] if names else "image"
        also = "" if names else f", nor any of {', '.join(USUAL['image'][1:])}"
        hint = nearest(wanted, map(clean, row))
        raise MissingKey(f"no key '{wanted}' of the image (--image-key){also}; keys found: {_names_found(row)}{hint}")
    raise InputError(f"'{names[0]}' is {image!r:.60}, the path of an image is expected")


def _likeliest_image(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """Of several usual keys that of a file's name: `image` may be a number, and COCO's `filepath` is a folder."""
    if "filepath" in names and "filename" in names:
        folder, name = row["filepath"], row["filename"]
        if isinstance(folder, str) and isinstance(name, str) and not folder.lower().endswith(SUFFIXES):
            return f"{folder}/{name}"
    given = [row[name] for name in names]
    files = (each for each in given if isinstance(each, str) and each.lower().endswith(SUFFIXES))
    return next(itertools.chain((each for each in given if isinstance(each, Member | Cell)), files, given), ABSENT)


def _no_texts(row: Mapping[str, Any], chosen: Mapping[str, str]) -> MissingKey:
    wanted = [chosen[name] for name in ("long", "short") if name in chosen] or ["long", "short"]
    also = "" if {"long", "short"} & set(chosen) else f", nor any of {', '.join(USUAL['short'][1:])}"
    hint = next(filter(None, (nearest(key, map(clean, row)) for key in wanted)), "")
    keys = " or ".join(f"'{key}'" for key in wanted)
    return MissingKey(
        f"no key {keys} of the texts (--long-key, --short-key){also}, and no label; "
        f"keys found: {_names_found(row)}{hint}"
    )
