"""Rows of a file: dictionaries, each with its place, so that a reader can begin at any of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from lrsclip_jax.sources.item import Fault
from lrsclip_jax.sources.text_encoding import TextFile


class Place(NamedTuple):
    """Where a row begins: `offset` in bytes, and the `number` of its line or record, from 1."""

    offset: int
    number: int


class Row(NamedTuple):
    """A row of a file, or in place of `values` the reason why it is none."""

    place: Place
    values: dict[str, Any] | str


class RowFile(Protocol):
    """A file of rows. Reading is streamed, in the file's own order, and holds one row at a time."""

    @property
    def path(self) -> Path:
        """Of the file."""
        ...

    @property
    def text(self) -> TextFile:
        """Which opens it."""
        ...

    def rows(self, start: Place | None = None, file: BinaryIO | None = None) -> Iterator[Row]:
        """Yields the rows from one's place on, by default all.

        Reads from `file`, where `text` is open already. Raises InputError for what is no file of its kind.
        """
        ...

    def where(self, place: Place) -> str:
        """Returns "FILE, line 3": what a person calls the place."""
        ...


def located(file: RowFile) -> Iterator[tuple[str, dict[str, Any] | Fault]]:
    """Yields every row of a file with where it stands, or the fault in its place."""
    for place, values in file.rows():
        where = file.where(place)
        yield where, Fault(where, values) if isinstance(values, str) else values
