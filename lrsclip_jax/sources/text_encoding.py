"""Text files in the encodings that people bring: UTF-8 as it is, others by way of a temporary copy in UTF-8."""

from __future__ import annotations

import codecs
import contextlib
import functools
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from lrsclip_jax.errors import InputError

_CHUNK = 1 << 20
_BOMS = {
    codecs.BOM_UTF8: ("UTF-8", "utf-8"),
    codecs.BOM_UTF32_LE: ("UTF-32", "utf-32"),
    codecs.BOM_UTF32_BE: ("UTF-32", "utf-32"),
    codecs.BOM_UTF16_LE: ("UTF-16", "utf-16"),
    codecs.BOM_UTF16_BE: ("UTF-16", "utf-16"),
}
_STRAY = re.compile("[\udc80-\udcff]")
_HIGH = re.compile(rb"[\x80-\xff]+")


@dataclass(frozen=True)
class TextFile:
    """A text file that reads as UTF-8.

    Attributes:
      path: of the file as it was named.
      start: offset of its first byte after a byte order mark.
      torn: whether some of its bytes are no UTF-8, though most are: decode with "surrogateescape".
      note: a line that says which other encoding was read, or "".
    """

    path: Path
    start: int = 0
    torn: bool = False
    note: str = ""
    _copy: tempfile._TemporaryFileWrapper | None = None

    def open(self) -> BinaryIO:
        """Opens it for reading, at its start."""
        file = open(self._copy.name if self._copy else self.path, "rb")
        file.seek(self.start)
        return file

    @contextlib.contextmanager
    def at(self, offset: int | None, file: BinaryIO | None = None) -> Iterator[BinaryIO]:
        """Gives it open at an offset, by default its start; `file` where it is open already, and stays so."""
        if file is None:
            with self.open() as opened, self.at(offset, opened) as moved:
                yield moved
        else:
            file.seek(self.start if offset is None else offset)
            yield file


def open_text(path: Path) -> TextFile:
    """Opens a text file in UTF-8, UTF-16, UTF-32, GB 18030 (RSICD's lists) or Windows-1252, told apart by their bytes.

    All of it is read once. Raises InputError where it can't be read, is no regular file (a pipe may have no end), or is
    in none of these.
    """
    try:
        if not path.is_file() and not path.is_dir() and path.exists():
            raise InputError(f"{path}: no regular file, which could be read again")
        with open(path, "rb") as file:
            start = file.read(4)
        named = next((found for bom, found in _BOMS.items() if start.startswith(bom)), None)
        if named is None:
            return _without_mark(path)
        title, encoding = named
        if encoding == "utf-8":
            return TextFile(path, len(codecs.BOM_UTF8), _counts(path)[1] > 0)
        return _copied(path, title, encoding)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from None


def with_line_ends(text: TextFile) -> TextFile:
    """Returns a copy of a file whose lines end in carriage returns alone, as on old Macs, with the ends of today."""
    copy = tempfile.NamedTemporaryFile(prefix="lrsclip_text_")
    with text.open() as file:
        for chunk in iter(functools.partial(file.read, _CHUNK), b""):
            copy.write(chunk.replace(b"\r", b"\n"))
    copy.flush()
    return replace(text, start=0, _copy=copy)


def _without_mark(path: Path) -> TextFile:
    letters, stray, pairs, singles = _counts(path)
    if not stray or letters > stray:  # one torn row makes no other encoding
        return TextFile(path, 0, stray > 0)
    # Chinese letters are two high bytes each; of accents and quotation marks one stands alone.
    candidates = [("GB 18030", "gb18030")] if pairs > singles else [("Windows-1252", "cp1252"), ("GB 18030", "gb18030")]
    for title, encoding in candidates:
        try:
            return _copied(path, title, encoding)
        except InputError:
            continue
    raise InputError(f"{path}: neither UTF-8 nor GB 18030 nor Windows-1252 text")


def _counts(path: Path) -> tuple[int, int, int, int]:
    """Letters beyond ASCII in UTF-8, bytes that are no UTF-8, and high bytes in even and in odd runs."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    letters = stray = pairs = singles = 0
    with open(path, "rb") as file:
        for chunk in iter(functools.partial(file.read, _CHUNK), b""):
            if chunk.isascii() and not decoder.getstate()[0]:
                continue
            text = decoder.decode(chunk)
            bad = len(_STRAY.findall(text))
            stray += bad
            letters += sum(len(run) for run in re.findall(r"[^\x00-\x7f]+", text)) - bad
            if bad:
                runs = list(map(len, _HIGH.findall(chunk)))
                pairs += sum(run for run in runs if run % 2 == 0)
                singles += sum(run for run in runs if run % 2)
    return letters, stray + len(decoder.decode(b"", final=True)), pairs, singles


def _copied(path: Path, title: str, encoding: str) -> TextFile:
    copy = tempfile.NamedTemporaryFile(prefix="lrsclip_text_")
    try:
        with open(path, encoding=encoding, newline="") as file:
            for text in iter(functools.partial(file.read, _CHUNK), ""):
                copy.write(text.encode("utf-8", "surrogatepass"))
        copy.flush()
    except UnicodeError as error:
        raise InputError(f"{path}: not {title} text ({error})") from None
    return TextFile(path, 0, False, f"{os.path.basename(path)} is not UTF-8: read as {title}", copy)
