"""Under which keys rows hold what, and how a row becomes an item."""

from __future__ import annotations

import ast
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from eval.facts import classes
from lrsclip_jax.data.images import SUFFIXES
from lrsclip_jax.errors import InputError, nearest
from lrsclip_jax.sources.item import Cell, Item, Member


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

    def chosen(self) -> dict[str, str]:
        """Returns the keys that were given."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: key for name, key in given.items() if key is not None}


_NAMES_OF_LABELS = ("label_name", "class_name")  # what a label that is a number stands for
# In order of preference. A caption is a short text unless a key says otherwise.
USUAL: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "filepath", "file_name", "filename", "image_path"),
    "long": ("long",),
    "short": ("short", "caption", "captions", "text", "title", "sentences", "raw"),
    "id": ("id",),
    "label": ("label", "class", "cls", *_NAMES_OF_LABELS),
    "licence": ("licence",),
    "split": ("split",),
    "source": ("source",),
}
ABSENT: Any = object()
_WHOLE = re.compile(r"-?\d+\.0+")
_QUOTED = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_LIST = re.compile(rf"\[\s*{_QUOTED}(?:[\s,]+{_QUOTED})*[\s,]*\]", re.DOTALL)


class MissingKey(InputError):
    """A row has no key of the image, or neither a key of texts nor a label."""


def item_reader(
    keys: Keys, root: Path, source: str, template: str | None = None
) -> Callable[[Mapping[str, Any], str], Item]:
    """Returns the function from a row and where it stands to its item.

    Args:
      keys: where rows hold what.
      root: folder that paths of images are relative to.
      source: of items whose row names none.
      template: with "{class}" for the words of the label: the short text of a row without texts.

    The function raises MissingKey, or InputError for a value of another type than is expected; the text of neither says
    where.
    """
    chosen = keys.chosen()
    of_shape: dict[tuple[str, ...], dict[str, tuple[str, ...]]] = {}

    def item(row: Mapping[str, Any], where: str) -> Item:
        shape = tuple(row)
        names = of_shape.get(shape)
        if names is None:
            names = of_shape[shape] = _names(row, chosen)
        image = _image(row, names["image"])
        long, short = _first(row, names["long"]), _first(row, names["short"])
        label = _label(row, names["label"])
        if long is ABSENT and short is ABSENT and label is None:
            raise _no_texts(row, chosen)
        long = () if long is ABSENT else _texts(long, names["long"][0])
        short = () if short is ABSENT else _texts(short, names["short"][0])
        given = len(long) + len(short)
        long, short = tuple(filter(None, long)), tuple(filter(None, short))
        empty = given - len(long) - len(short)
        if template and label and not long and not short:
            short = (caption_of_label(label, template),)
        return Item(
            id=_word(row, names["id"]) or clean(str(image)),
            source=_word(row, names["source"]) or source,
            image=root / image if isinstance(image, str) else image,
            long=long,
            short=short,
            label=label,
            licence=_word(row, names["licence"]),
            split=_word(row, names["split"]),
            where=where,
            empty_texts=empty,
        )

    return item


def caption_of_label(label: str, template: str) -> str:
    """Returns a template with the words of a label in place of "{class}"."""
    return template.replace("{class}", classes.words(label))


def clean(text: str) -> str:
    """Returns the text on one line, without outer blanks; lone surrogates, unknown to UTF-8, become "?"."""
    if text.isprintable():  # neither line ends nor surrogates
        return text.strip()
    return " ".join(text.splitlines()).strip().encode("utf-8", "replace").decode("utf-8")


def value(row: Any, key: str, path: bool = False) -> Any:
    """Returns what is under a key, a dotted path of keys, or for an image's `path` several keys joined by "/".

    ABSENT where it is not there.
    """
    if isinstance(row, Mapping) and key in row:
        return row[key]
    if path and "/" in key:
        parts = [value(row, part) for part in key.split("/")]
        return ABSENT if ABSENT in parts else "/".join(map(str, parts))
    for part in key.split("."):
        try:
            row = row[int(part) if isinstance(row, list) else part]
        except (KeyError, IndexError, TypeError, ValueError):
            return ABSENT
    return row


def image_of_row(row: Mapping[str, Any], chosen: str | None) -> str | Member | Cell:
    """Returns a row's image: its path as the row has it, or the place of its bytes.

    Args:
      row: of any shape.
      chosen: its key; None: the usual ones.

    Raises MissingKey without one, InputError where it is no path.
    """
    return _image(row, _candidates(row, "image", chosen))


def _names(row: Mapping[str, Any], chosen: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The keys of a row of this shape, for each purpose those that may hold it."""
    names = {name: _candidates(row, name, chosen.get(name)) for name in USUAL}
    for other, name in (("long", "short"), ("short", "long")):
        if other in chosen and name not in chosen:
            names[name] = tuple(key for key in names[name] if key != chosen[other])
    return names


def _candidates(row: Mapping[str, Any], name: str, chosen: str | None) -> tuple[str, ...]:
    return (chosen,) if chosen else tuple(key for key in USUAL[name] if key in row)


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    found = ABSENT
    for name in names:
        given = row[name] if name in row else value(row, name)
        if given is not None and given is not ABSENT:
            return given
        found = given if found is ABSENT else found
    return found


def _image(row: Mapping[str, Any], names: tuple[str, ...]) -> str | Member | Cell:
    found = [row[name] if name in row else value(row, name, path=True) for name in names]
    image = found[0] if found else ABSENT
    if len(found) > 1:  # such as a number of the image next to the name of its file
        named = (each for each in found if isinstance(each, str) and each.lower().endswith(SUFFIXES))
        image = next((each for each in found if isinstance(each, Member | Cell)), None) or next(named, image)
    if image is ABSENT:
        wanted = names[0] if names else "image"
        also = "" if names else f", nor any of {', '.join(USUAL['image'][1:])}"
        raise MissingKey(
            f"no key '{wanted}' of the image (--image-key){also}; keys found: {', '.join(row)}{nearest(wanted, row)}"
        )
    if isinstance(image, str) and image:
        if "\0" in image:
            raise InputError(f"'{names[0]}' is {image!r:.60}, which no file can be called")
        if not image.isascii():
            try:
                os.fsencode(image)
            except UnicodeEncodeError:
                raise InputError(f"'{names[0]}' is {image!r:.60}, which no file can be called") from None
        return image
    if isinstance(image, Member | Cell):
        return image
    raise InputError(f"'{names[0]}' is {image!r:.60}, the path of an image is expected")


def _no_texts(row: Mapping[str, Any], chosen: Mapping[str, str]) -> MissingKey:
    wanted = [chosen[name] for name in ("long", "short") if name in chosen] or ["long", "short"]
    also = "" if {"long", "short"} & set(chosen) else f", nor any of {', '.join(USUAL['short'][1:])}"
    hint = next(filter(None, (nearest(key, row) for key in wanted)), "")
    keys = " or ".join(f"'{key}'" for key in wanted)
    return MissingKey(
        f"no key {keys} of the texts (--long-key, --short-key){also}, and no label; keys found: {', '.join(row)}{hint}"
    )


def _texts(given: Any, key: str) -> list[str]:
    if isinstance(given, str):
        given = _listed(given, key) if given.startswith("[") else (given,)
    values = given if isinstance(given, list | tuple) else (given,)
    texts = []
    for each in values:
        if isinstance(each, dict) and "raw" in each:  # a sentence of Karpathy's
            each = each["raw"]
        if each is None or each != each:  # NaN is how pandas writes what is missing
            each = ""
        if not isinstance(each, str):
            raise InputError(f"'{key}' holds {each!r:.60}, a text or a list of texts is expected")
        texts.append(clean(each))
    return texts


def _listed(text: str, key: str) -> list[str] | tuple[str, ...]:
    """The texts of a list that was written as one, by JSON, Python or numpy (which has no commas between them)."""
    stripped = text.strip()
    if not stripped.startswith(("['", '["')):
        return (text,)
    try:
        found = json.loads(stripped)
        if all(isinstance(each, str) for each in found):
            return found
    except (ValueError, RecursionError):
        pass
    if not _LIST.fullmatch(stripped):
        raise InputError(f"'{key}' holds {text!r:.60}, a list of texts that is torn or cut")
    try:
        return [ast.literal_eval(quoted.replace("\n", r"\n")) for quoted in re.findall(_QUOTED, stripped, re.DOTALL)]
    except (ValueError, SyntaxError):
        raise InputError(f"'{key}' holds {text!r:.60}, a list of texts is expected") from None


def _label(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    label = _word(row, names)
    if label is None:
        return None
    if _WHOLE.fullmatch(label):  # of pandas, where the label of another row is missing
        label = label.partition(".")[0]
    if label.lstrip("-").isdigit() and len(names) > 1:
        return _word(row, tuple(name for name in names if name in _NAMES_OF_LABELS)) or label
    return label


def _word(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    given = _first(row, names) if names else None
    if given is None or given is ABSENT:
        return None
    if isinstance(given, str):
        return clean(given) or None
    if isinstance(given, float):
        return None if math.isnan(given) else str(int(given)) if given.is_integer() else str(given)
    if isinstance(given, int):
        return str(given)
    raise InputError(f"'{names[0]}' is {given!r:.60}, a text or a number is expected")
