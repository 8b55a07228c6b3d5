"""The values of rows: texts, words and labels, as JSON, pandas and numpy write them."""

from __future__ import annotations

import ast
import json
import math
import os
import re
from collections.abc import Mapping
from typing import Any

from eval.facts import classes
from eval.file_names import spelled
from lrsclip_jax.errors import InputError

ABSENT: Any = object()
NAMES_OF_LABELS = ("label_name", "class_name")  # what a label that is a number stands for
_WHOLE = re.compile(r"-?\d+\.0+")
_QUOTED = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_BEGINS = re.compile(r"""\[\s*['"]""")
_LIST = re.compile(rf"\[\s*{_QUOTED}(?:[\s,]+{_QUOTED})*[\s,]*\]", re.DOTALL)


def caption_of_label(label: str, template: str) -> str:
    """Returns a template with the words of a label in place of "{class}"."""
    return template.replace("{class}", classes.words(label))


def clean(text: str) -> str:
    """Returns the text on one line, without outer blanks; lone surrogates, unknown to UTF-8, become "?"."""
    if text.isprintable():  # neither line ends nor surrogates
        return text.strip()
    return " ".join(text.splitlines()).strip().encode("utf-8", "replace").decode("utf-8")


def clean_name(name: str) -> str:
    """Returns the name or path of a file on one line, bytes that are no UTF-8 `eval.file_names.spelled`."""
    return name.strip() if name.isprintable() and "⟨" not in name else clean(spelled(name))


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


def first(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """Returns the first value under any of the keys that is not null; ABSENT where none of them is there."""
    found = ABSENT
    for name in names:
        given = row[name] if name in row else value(row, name)
        if given is not None and given is not ABSENT:
            return given
        found = given if found is ABSENT else found
    return found


def can_be_path(text: str) -> bool:
    """Whether a file can be called so."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def texts_under(row: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, ...] | None:
    """Returns the texts under the first key that holds any, each on one line; None where no key is there."""
    given = first(row, names)
    if given is ABSENT:
        return None
    if isinstance(given, str):
        if not given.startswith("["):
            return (clean(given),)
        given = _listed(given, names[0])
    texts = []
    for each in given if isinstance(given, list | tuple) else (given,):
        if isinstance(each, dict) and "raw" in each:  # a sentence of Karpathy's
            each = each["raw"]
        if isinstance(each, str):
            texts.append(clean(each))
        elif each is None or each != each:  # NaN is how pandas writes what is missing
            texts.append("")
        else:
            raise InputError(f"'{names[0]}' holds {each!r:.60}, a text or a list of texts is expected")
    return tuple(texts)


def _listed(text: str, key: str) -> list[str] | tuple[str, ...]:
    """The texts of a list that was written as one, by JSON, Python or numpy (which has no commas between them)."""
    stripped = text.strip()
    if not _BEGINS.match(stripped):
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


def label_under(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """Returns the label of a row. A name that stands next to a number is preferred to it, and 1.0 is the number 1."""
    label = word_under(row, names)
    if label is None:
        return None
    if _WHOLE.fullmatch(label):  # of pandas, where the label of another row is missing
        label = label.partition(".")[0]
    if label.lstrip("-").isdigit() and len(names) > 1:
        return word_under(row, tuple(name for name in names if name in NAMES_OF_LABELS)) or label
    return label


def word_under(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """Returns the first value of the keys as a word; None where it is missing, empty or NaN. InputError for others."""
    given = first(row, names)
    if given is None or given is ABSENT:
        return None
    if isinstance(given, str):
        return clean(given) or None
    if isinstance(given, float):
        return None if math.isnan(given) else str(int(given)) if given.is_integer() else str(given)
    if isinstance(given, int):
        return str(given)
    raise InputError(f"'{names[0]}' is {given!r:.60}, a text or a number is expected")
