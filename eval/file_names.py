"""How text files spell the names of files, which may be any bytes.

Linux takes any bytes for a name; Python holds those that are no UTF-8 as halves of surrogate pairs, which no text file
can hold. In JSON, CSV, HTML and Parquet such a byte is spelled ⟨ff⟩: its two hexadecimal digits between U+27E8 and
U+27E9. A name that itself holds what looks so has its "⟨" spelled by its bytes, so that every name has one spelling
and every spelling one name. All other names are spelled as they are.

    spelled(os.fsdecode(b"b\\xff.jpg")) == "b⟨ff⟩.jpg"        named("b⟨ff⟩.jpg") == os.fsdecode(b"b\\xff.jpg")
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, BinaryIO

# Bytes from 0x80 on alone: no spelling is a "/", a ".." or a null.
_LOOKALIKE = re.compile("⟨(?=[89a-f][0-9a-f]⟩)")
_SPELLING = re.compile("⟨([89a-f][0-9a-f])⟩")
_HALVES = re.compile("[\ud800-\udfff]")


def spelled(name: str) -> str:
    """Returns the name or path of a file, or a text that holds one, as text files spell it.

    Halves of surrogate pairs that stand for no byte, which only JSON's escapes make, become "?".
    """
    if name.isascii():
        return name
    return _HALVES.sub(_byte, _LOOKALIKE.sub("⟨e2⟩⟨9f⟩⟨a8⟩", name))


def named(text: str) -> str:
    """Returns the name or path that a text file spells, for `open` and `Path`: the inverse of `spelled`."""
    if text.isascii():
        return text
    halves = _SPELLING.sub(lambda match: chr(0xDC00 + int(match[1], 16)), text)
    return halves.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def all_spelled(value: Any) -> Any:
    """Returns a value of JSON's types with every text in it that UTF-8 can't hold `spelled`; others stay."""
    if isinstance(value, str):
        return spelled(value) if _HALVES.search(value) else value
    if isinstance(value, dict):
        return {all_spelled(key): all_spelled(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(all_spelled, value))
    return value


def readable(path: Path) -> Path | BinaryIO:
    """Returns a path, or the opened file where a library in C++ takes no path like it (pyarrow: only UTF-8)."""
    return path if not _HALVES.search(str(path)) else path.open("rb")


def writable(text: str) -> str:
    """Returns a text that is not of names alone with its halves of surrogate pairs spelled, for UTF-8 to hold it."""
    return text if text.isascii() else _HALVES.sub(_byte, text)


def _byte(match: re.Match[str]) -> str:
    code = ord(match[0]) - 0xDC00
    return f"⟨{code:02x}⟩" if 0x80 <= code <= 0xFF else "?"
