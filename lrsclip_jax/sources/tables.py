"""CSV and TSV files with a header, read row by row. A quotation mark that nothing closes costs its own row alone."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lrsclip_jax.data.images import SUFFIXES
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Fault
from lrsclip_jax.sources.json_scan import NOT_UTF8, STRAY
from lrsclip_jax.sources.lists import list_stream
from lrsclip_jax.sources.row_values import clean_name
from lrsclip_jax.sources.rows import Place, Row, located
from lrsclip_jax.sources.source import Reading, Source
from lrsclip_jax.sources.text_encoding import TextFile, open_text, with_line_ends

_LONGEST_CELL = 1 << 26  # characters; Python's own limit is 131,072
_MOST_LINES = 1000  # of a cell: a quotation mark that is still open then is a mistake
_DELIMITERS = "\t,;|"
_IMAGE_NAME = re.compile(rf"\S+({'|'.join(map(re.escape, SUFFIXES))})", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """A file of cells between delimiters (tab, comma, semicolon or bar), whose first line names the columns.

    Cells may be quoted as RFC 4180 has it, and hold line ends then.
    """

    path: Path
    text: TextFile
    columns: tuple[str, ...]
    delimiter: str
    first: Place

    def rows(self, start: Place | None = None, file: BinaryIO | None = None) -> Iterator[Row]:
        """Yields the rows, from the first or from a place on. A cell that is missing at the end of a row is None."""
        width, columns = len(self.columns), self.columns
        # Python's limit is one for the whole process, and other readers must not be held to ours.
        csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
        for place, cells in self._cells(start or self.first, file):
            if isinstance(cells, str):
                yield Row(place, cells)
            elif len(cells) == width:
                yield Row(place, dict(zip(columns, cells, strict=True)))
            elif len(cells) > width:
                yield Row(place, f"more columns than the header has ({', '.join(columns)})")
            elif cells:
                yield Row(place, dict.fromkeys(columns) | dict(zip(columns, cells, strict=False)))

    def where(self, place: Place) -> str:
        return clean_name(f"{self.path.name}, line {place.number}")

    def _cells(self, start: Place, file: BinaryIO | None) -> Iterator[tuple[Place, list[str] | str]]:
        with self.text.at(start.offset, file) as opened:
            place: Place | None = start
            while place:
                place = yield from self._until_wrong(opened, place)

    def _until_wrong(
        self, file: BinaryIO, place: Place
    ) -> Generator[tuple[Place, list[str] | str], None, Place | None]:
        """Yields rows up to one that can't be read, and returns where to begin again: at its second line."""
        file.seek(place.offset)
        offset, number = place
        second: Place | None = None  # of the row that is being read

        def lines() -> Iterator[str]:
            nonlocal offset, number, second
            for line in file:
                if second and (number - place.number > _MOST_LINES or self._is_row(line)):
                    raise csv.Error("a quotation mark is never closed")
                offset += len(line)
                number += 1
                second = second or Place(offset, number)
                yield line.decode("utf-8", "surrogateescape")

        reader = csv.reader(lines(), delimiter=self.delimiter, strict=True)
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield place, f"not CSV ({error})"
                return second
            if cells is None:
                return None
            if self.text.torn and any(map(STRAY.search, cells)):
                yield place, NOT_UTF8
            else:
                yield place, cells
            place, second = Place(offset, number), None

    def _is_row(self, line: bytes) -> bool:
        """Whether a line, which would be the inside of a cell, is rather a row of its own with an image."""
        try:
            cells = next(csv.reader([line.decode("utf-8", "replace")], delimiter=self.delimiter, strict=True), [])
        except csv.Error:
            return False
        return len(cells) == len(self.columns) > 1 and any(map(_IMAGE_NAME.fullmatch, cells))


def open_table(path: Path) -> Table:
    """Opens a CSV or TSV file; InputError where it is empty, or names a column twice."""
    text = open_text(path)
    header, first = _header(text)
    if b"\r" in header.rstrip(b"\r\n"):
        text = with_line_ends(text)
        header, first = _header(text)
    line = header.decode("utf-8", "replace")
    delimiter = next((sign for sign in _DELIMITERS if sign in line), ",")
    names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter))]
    for name in names:
        if name and names.count(name) > 1:
            raise InputError(f"{path}, line {first.number - 1}: two columns are called '{name}': rename one of them")
    return Table(path, text, tuple(names), delimiter, first)


def _header(text: TextFile) -> tuple[bytes, Place]:
    """The first line that holds something, and the place of the next one."""
    with text.open() as file:
        for number in itertools.count(2):
            line = file.readline()
            if not line:
                raise InputError(f"{text.path}: empty, a header with the names of its columns is expected")
            if line.strip():
                return line, Place(file.tell(), number)
    raise AssertionError


def read_table(path: Path, reading: Reading) -> Source:
    """Opens a CSV or TSV file of images."""
    file = open_table(path)
    stream = list_stream(file, path.stem, reading.image_root or path.parent, reading)
    return Source(path.stem, stream, notes=(file.text.note,) if file.text.note else ())


def table(path: Path) -> Iterator[tuple[str, dict[str, Any] | Fault]]:
    """Yields the rows of a CSV or TSV file, or faults, each with its file and line."""
    return located(open_table(path))


def columns(path: Path) -> list[str]:
    """Returns the names in the header of a CSV or TSV file."""
    return list(open_table(path).columns)
