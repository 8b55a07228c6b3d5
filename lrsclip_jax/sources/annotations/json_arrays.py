"""The arrays of a JSON object, such as COCO's images and annotations, element by element: it may exceed memory."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from lrsclip_jax.errors import InputError

_CHUNK = 1 << 20  # bytes that are read together
_LONGEST = 1 << 22  # bytes of a JSON text: so far from the end no error means that more has to be read
_BLANKS = " \t\r\n"
_BOM = "\xef\xbb\xbf"


class Element(NamedTuple):
    """An element of an array: its place in bytes, and its value, or a ValueError that says why it has none."""

    array: str
    offset: int
    size: int
    value: Any


def elements(path: Path, arrays: Iterable[str], form: str) -> Iterator[Element]:
    """Yields the elements of the named arrays at the top of a JSON object, in the order of the file.

    Args:
      path: of the file.
      arrays: their names.
      form: what such a file is called in errors, such as "COCO JSON".

    Raises:
      InputError: the file is no JSON object in UTF-8, ends too early or nests too deep; one of the names holds no
        array, comes twice, or is missing.
    """
    wanted = dict.fromkeys(arrays, False)
    try:
        with open(path, "rb") as file:
            text = _Text(file)
            text.skip(_BOM)
            text.expect("{")
            while text.next() != "}":
                text.next_is('"')
                name = text.value()[2]
                text.expect(":")
                if name in wanted:
                    if wanted[name] or text.next() != "[":
                        raise ValueError(f"'{name}' " + ("comes twice" if wanted[name] else "is no array"))
                    wanted[name] = True
                if text.next() == "[":
                    text.expect("[")
                    while text.next() != "]":
                        offset, size, value = text.value()
                        if name in wanted:
                            yield Element(name, offset, size, value)
                        text.separator("]")
                    text.expect("]")
                else:
                    text.value()
                text.separator("}")
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deep") from None
    except ValueError as error:
        raise InputError(f"{path}: no {form} with {', '.join(wanted)} ({error})") from None
    missing = [name for name, found in wanted.items() if not found]
    if missing:
        raise InputError(f"{path}: no {form} with {', '.join(wanted)} ({', '.join(missing)} missing)")


def read_element(file: BinaryIO, offset: int, size: int) -> Any:
    """Returns the value of an element that `elements` has found in the file."""
    file.seek(offset)
    return _loads(file.read(size).decode("utf-8"))


class _Text:
    """A window on a file. Each byte stands as one character, so that places in the text are places in the file."""

    def __init__(self, file: BinaryIO):
        self._file, self._text, self._at, self._start, self._ended = file, "", 0, 0, False

    def next(self) -> str:
        """Returns the next character that is no blank, without taking it; ValueError at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANKS:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more(_CHUNK):
                raise ValueError(f"it ends at byte {self._start + self._at}")

    def next_is(self, character: str) -> None:
        """Raises ValueError where another character is next."""
        if self.next() != character:
            raise ValueError(f"{character} is expected at byte {self._start + self._at}")

    def expect(self, character: str) -> None:
        """Takes a character; ValueError where another one is next."""
        self.next_is(character)
        self._at += 1

    def skip(self, start: str) -> None:
        """Takes these characters if the file goes on with them."""
        self._more(_CHUNK)
        self._at += len(start) * self._text.startswith(start, self._at)

    def separator(self, end: str) -> None:
        """Takes a comma between elements, or leaves the bracket that ends them."""
        if self.next() != end:
            self.expect(",")
            if self.next() == end:
                raise ValueError(f"a comma before '{end}' at byte {self._start + self._at}")

    def value(self) -> tuple[int, int, Any]:
        """Takes a JSON value and returns its place, its size in bytes, and itself or a ValueError."""
        self.next()
        step = _CHUNK
        while True:
            try:
                value, end = _decoded(self._text, self._at)
                if end < len(self._text) or not self._more(step):  # a number at the very end may continue
                    break
            except json.JSONDecodeError as error:
                # A text that is cut off looks wrong near its end, or where its last string begins.
                place = self._start + error.pos
                if len(self._text) - error.pos > _LONGEST or not self._more(step):
                    raise ValueError(f"{error.msg} at byte {place}") from None
            step *= 2
        offset, size, raw = self._start + self._at, end - self._at, self._text[self._at : end]
        self._at = end
        if not raw.isascii():
            try:
                value = _loads(raw.encode("latin-1").decode("utf-8"))
            except UnicodeDecodeError:
                value = ValueError("not UTF-8")
        return offset, size, value

    def _more(self, step: int) -> bool:
        chunk = b"" if self._ended else self._file.read(step)
        self._ended = not chunk
        self._text = self._text[self._at :] + chunk.decode("latin-1")
        self._start, self._at = self._start + self._at, 0
        return bool(chunk)


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < 4000 else math.inf  # Python converts no more than 4,300 digits


_decode = json.JSONDecoder().raw_decode
_decode_any = json.JSONDecoder(parse_int=_integer).raw_decode


def _decoded(text: str, at: int = 0) -> tuple[Any, int]:
    try:
        return _decode(text, at)
    except json.JSONDecodeError:
        raise
    except ValueError:
        return _decode_any(text, at)


def _loads(text: str) -> Any:
    return _decoded(text)[0]
