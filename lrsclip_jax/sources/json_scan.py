"""Reads a JSON document value by value, with the place of each: it may be larger than memory."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from lrsclip_jax.errors import InputError

_FIRST, _CHUNK = 1 << 14, 1 << 18  # bytes that are read together, at first and later
_LONGEST = 1 << 22  # characters of a text
# It always matches, if only nothing.
_blank = cast(Callable[[str, int], re.Match[str]], re.compile(r"[ \t\r\n]*").match)
_COMMA = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|["\[\]{}]', re.DOTALL)
_CLOSING = {"[": "]", "{": "}"}
STRAY = re.compile("[\udc80-\udcff]")
_TOO_DEEP, NOT_UTF8 = "nested too deep", "not UTF-8 text"


class BadValue(ValueError):
    """A value that can't be used; its text says why."""


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns an object of JSON; BadValue where a key stands twice in it, of which one value would be lost."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadValue(f"the key {twice!r:.60} stands twice in it")
    return values


_DECODER = json.JSONDecoder(object_pairs_hook=unique)
scan = _DECODER.scan_once  # type: ignore[attr-defined]  # typeshed lacks it
decode = _DECODER.decode


def reason(error: Exception) -> str:
    """Returns in words why a text is no JSON that can be used."""
    match error:
        case RecursionError():
            return _TOO_DEEP
        case BadValue():
            return str(error)
        case UnicodeDecodeError():
            return NOT_UTF8
        case StopIteration():
            return "not JSON (a value is expected)"
        case json.JSONDecodeError():
            return f"not JSON ({error.msg})"
        case _:
            return f"not JSON ({error})"


class Window:
    """A part of a text file that moves forward. `text` is read as far as `at`."""

    def __init__(self, file: BinaryIO, torn: bool = False):
        self.text, self.at, self.ended = "", 0, False
        self._file, self._torn, self._size = file, torn, _FIRST
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._known, self._offset = 0, file.tell()  # a character of `text`, and its offset in bytes

    def more(self) -> None:
        """Drops what was read, and reads on."""
        self.position()
        self.text, self.at, self._known = self.text[self.at :], 0, 0
        data = self._file.read(max(self._size, len(self.text)))  # twice as much for a value that is long
        self._size = min(2 * self._size, _CHUNK)
        self.ended = not data
        self.text += self._decoder.decode(data, final=self.ended)

    def position(self) -> int:
        """Returns the offset in bytes of what comes next."""
        if self.text.isascii():
            self._offset += self.at - self._known
        else:
            self._offset += len(self.text[self._known : self.at].encode("utf-8", "surrogateescape"))
        self._known = self.at
        return self._offset

    def next(self) -> str:
        """Skips blanks and returns the next character, or "" at the end."""
        while True:
            self.at = _blank(self.text, self.at).end()
            if self.at < len(self.text):
                return self.text[self.at]
            if self.ended:
                return ""
            self.more()

    def comma(self) -> bool:
        """Skips a comma with the blanks around it, if one comes next."""
        while True:
            found = _COMMA.match(self.text, self.at)
            if found and (found.end() < len(self.text) or self.ended):
                self.at = found.end()
                return True
            if not found and self.next() not in ("", ","):
                return False
            if self.ended:
                return False
            self.more()

    def value(self) -> Any:
        """Reads a value.

        Raises BadValue for one that can't be used and was skipped, InputError where it has no end.
        """
        while True:
            try:
                found, end = scan(self.text, self.at)
            except (StopIteration, json.JSONDecodeError) as error:
                wrong = error.value if isinstance(error, StopIteration) else error.pos
                # A text that ends too early looks wrong near its end, or where its last text begins.
                if self.ended or len(self.text) - wrong > _LONGEST:
                    fault = reason(error)
                    break
            except (ValueError, RecursionError) as error:
                fault = reason(error)
                break
            else:
                if end == len(self.text) and not self.ended:  # a number may go on
                    self.more()
                    continue
                if self._torn and STRAY.search(self.text, self.at, end):
                    self.at = end
                    raise BadValue(NOT_UTF8)
                self.at = end
                return found
            self.more()
        self._skip(fault)
        raise BadValue(fault)

    def _skip(self, fault: str) -> None:
        """Moves to the end of an object or list, by its brackets alone; InputError where it has none."""
        if self.text[self.at : self.at + 1] not in ("{", "["):
            raise InputError(fault)
        expected: list[str] = []
        while True:
            token = _TOKEN.search(self.text, self.at)
            if token is None or token[0] == '"':  # a text whose end is not here yet
                if self.ended:
                    raise InputError(f"torn, or {fault}")
                self.at = token.start() if token else len(self.text)
                self.more()
                continue
            self.at = token.end()
            if token[0] in _CLOSING:
                expected.append(_CLOSING[token[0]])
            elif token[0] in ("]", "}"):
                if expected.pop() != token[0]:
                    raise InputError(fault)
                if not expected:
                    return
