"""JSON in the forms that captions come in: a row a line, a list of rows, or an object whose lists hold them.

All is streamed. A row that can't be used is a reason in its place; what can't be read as a whole is an InputError.
"""

from __future__ import annotations

import bisect
import collections
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Fault
from lrsclip_jax.sources.json_scan import BadValue, Window, decode, reason, scan
from lrsclip_jax.sources.row_values import clean_name
from lrsclip_jax.sources.rows import Place, Row, located
from lrsclip_jax.sources.text_encoding import TextFile, open_text

_PEEKED = 1 << 20  # bytes that tell the layout


@dataclass(frozen=True)
class JsonLines:
    """A file with a JSON object a line; blank lines are skipped."""

    path: Path
    text: TextFile

    def rows(self, start: Place | None = None, file: BinaryIO | None = None) -> Iterator[Row]:
        """Yields the rows, from the start or from a place on."""
        offset, first = start or (self.text.start, 1)
        with self.text.at(offset, file) as lines:
            for number, line in enumerate(lines, first):
                if not line.isspace():
                    yield Row(Place(offset, number), _row_of_line(line))
                offset += len(line)

    def where(self, place: Place) -> str:
        return clean_name(f"{self.path.name}, line {place.number}")


@dataclass(frozen=True)
class JsonLists:
    """A JSON list of rows, or an object that has lists of rows among its values.

    Attributes:
      only: keys of the lists that hold rows; None: all.
      members: offset and key of every list of an object, in the order of the file, as far as it was read.
    """

    path: Path
    text: TextFile
    only: tuple[str, ...] | None = None
    members: dict[int, str] = field(default_factory=dict)

    def rows(self, start: Place | None = None, file: BinaryIO | None = None) -> Iterator[Row]:
        """Yields the elements of the lists; from a place on, those of its own list.

        Raises InputError where the file is neither a list nor an object, or is torn.
        """
        with self.text.at(start and start.offset, file) as opened:
            window = Window(opened, self.text.torn)
            number = start.number if start else 1
            try:
                if start:
                    yield from _elements(window, number)
                elif window.next() == "[":
                    window.at += 1
                    yield from _elements(window, number)
                    _end(window)
                elif window.next() == "{":
                    window.at += 1
                    yield from self._lists(window)
                    _end(window)
                else:
                    raise InputError("a JSON list of rows is expected")
            except InputError as error:
                raise InputError(f"{self.path}: {error}") from None

    def key(self, place: Place) -> str:
        """Returns the key of the list that a row is in; "" in a file that is a list."""
        offsets = list(self.members)
        number = bisect.bisect_right(offsets, place.offset)
        return self.members[offsets[number - 1]] if number else ""

    def where(self, place: Place) -> str:
        key = self.key(place)
        unit = {"": "record", "images": "image", "annotations": "annotation"}.get(key, f"{key:.60} record")
        return clean_name(f"{self.path.name}, {unit} {place.number}")

    def _lists(self, window: Window) -> Iterator[Row]:
        if window.next() == "}":
            window.at += 1
            return
        while True:
            key = window.value() if window.next() == '"' else None
            if not isinstance(key, str) or window.next() != ":":
                raise InputError("not JSON (a key is expected)")
            window.at += 1
            if window.next() == "[":
                window.at += 1
                self.members[window.position()] = key
                rows = _elements(window, 1)
                if self.only is None or key in self.only:
                    yield from rows
                else:
                    collections.deque(rows, maxlen=0)
            else:
                try:
                    window.value()
                except BadValue as error:
                    raise InputError(f"{key!r:.60}: {error}") from None
            if not window.comma():
                if window.next() != "}":
                    raise InputError("torn, or not JSON")
                window.at += 1
                return


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any] | Fault]]:
    """Yields the rows of a file of JSON lines, or faults, each with its file and line."""
    return located(JsonLines(path, open_text(path)))


def json_list(path: Path) -> Iterator[tuple[str, dict[str, Any] | Fault]]:
    """Yields the rows of a JSON list, or faults, each with its file and number; InputError where it is no list."""
    return located(JsonLists(path, open_text(path)))


def json_layout(path: Path, text: TextFile | None = None) -> str:
    """Returns "lines", "list" or "object" for a JSON file, as its first megabyte tells."""
    with (text or open_text(path)).open() as file:
        start = file.read(_PEEKED).lstrip()
    if start.startswith(b"["):
        return "list"
    first, _, rest = start.partition(b"\n")
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return "object" if path.suffix.lower() == ".json" and start.startswith(b"{") else "lines"
    lists = isinstance(row, dict) and not rest.strip() and [v for v in row.values() if isinstance(v, list)]
    alone = lists and any(isinstance(element, dict) for each in lists for element in each) and "image" not in row
    return "object" if alone else "lines"


def _row_of_line(line: bytes) -> dict[str, Any] | str:
    try:
        text = line.strip().decode()
        row, end = scan(text, 0)
        if end < len(text):
            row = decode(text)  # which says what is wrong with it
    except (StopIteration, ValueError, RecursionError) as error:
        return reason(error)
    return row if isinstance(row, dict) else _no_row(row)


def _elements(window: Window, number: int) -> Iterator[Row]:
    """The values of a list whose "[" was read, and its end."""
    if window.next() == "]":
        window.at += 1
        return
    while True:
        if window.at == len(window.text):
            raise InputError(f"after record {number - 1}: torn")
        place = Place(window.position(), number)
        try:
            row = window.value()
        except BadValue as error:
            yield Row(place, str(error))
        except InputError as error:
            raise InputError(f"record {number}: {error}") from None
        else:
            yield Row(place, row if isinstance(row, dict) else _no_row(row))
        number += 1
        if not window.comma():
            if window.next() != "]":
                raise InputError(f"after record {number - 1}: torn, or not JSON")
            window.at += 1
            return


def _end(window: Window) -> None:
    if window.next():
        raise InputError("more after the end of the JSON document")


def _no_row(row: Any) -> str:
    return f"a {type(row).__name__} where an object with image and texts is expected"
