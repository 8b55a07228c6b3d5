"""What every source yields: captioned or annotated images that are not opened yet, and the faults between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Thing:
    """An annotated object.

    Attributes:
      name: its class as the annotation has it, such as "small-vehicle".
      box: x0, y0, x1, y1 in pixels, x to the right and y down, ends exclusive; None where only its presence is known.
      polygon: its outline, ((x, y), …) in pixels, where the annotation has one.
    """

    name: str
    box: Box | None = None
    polygon: tuple[tuple[float, float], ...] = ()


class Drawing(NamedTuple):
    """A procedural scene (`lrsclip_jax.data.scenes`) that is still to be drawn; its texts come with it."""

    seed: int
    index: int  # type: ignore[assignment]  # not the method of a tuple


@dataclass(frozen=True)
class Member:
    """An image inside another file: `size` bytes from `offset` on. Its name leads nowhere and is only shown."""

    file: Path
    name: str
    offset: int
    size: int

    def read_bytes(self) -> bytes:
        """Returns the bytes; OSError where the file ends before them."""
        with open(self.file, "rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) < self.size:
            raise OSError(0, f"{self.file} is torn")
        return data

    def __str__(self) -> str:
        return f"{self.file}/{self.name}"


@dataclass(frozen=True, repr=False)
class Fetched(Member):
    """A member of a tar that was copied here from `origin`, an address. Its text is the same wherever the copy lies."""

    origin: str = ""

    def __repr__(self) -> str:
        return f"Fetched(origin={self.origin!r}, name={self.name!r}, offset={self.offset}, size={self.size})"

    def __str__(self) -> str:
        return f"{self.origin}/{self.name}"


@dataclass(frozen=True)
class Cell:
    """An image in a row of a Parquet file, as bytes in a column: binary, or a struct with a field `bytes`."""

    file: Path
    column: str
    group: int  # row group
    row: int  # in the group

    def read_bytes(self) -> bytes:
        """Returns the bytes; OSError where the file can't be read."""
        from lrsclip_jax.sources.parquet import read_cell  # pyarrow, which other sources need not import

        return read_cell(self)

    def __str__(self) -> str:
        return f"{self.file}, row {self.row} of group {self.group}"


@dataclass(frozen=True)
class Entry:
    """An image in a sequence of records, such as a prepared set, which calls it `id`."""

    records: Sequence[Any]
    index: int
    id: str

    def read_bytes(self) -> bytes:
        """Returns the bytes; InputError where the record is torn."""
        return self.records[self.index].image

    def __str__(self) -> str:
        return self.id


Image = Path | Member | Cell | Entry | Drawing


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a source with all that the source says of it. The image is not opened, and may be missing.

    Attributes:
      id: as the source calls it, by default the path of the image; one in a source ("a.jpg#2" where it comes again).
      source: the subset, by default the name of the file or folder.
      image: where its bytes are.
      long, short: texts on one line each, none of them empty.
      label: class of the whole scene.
      licence, split: where the source names them.
      things: annotated objects; None where the source annotates none, () where it says that there are none.
      width, height: in pixels, where they are known without decoding.
      where: file and line, record or sample that it comes from.
      note: what was left out or clipped, for a record's provenance.
      empty_texts: texts left out because they held nothing.
      negative: as many as `short`, the hard negative of each: that text with one fact changed, so that it is false of
        the image, or "" where there is none; () where no text has one.
    """

    id: str
    source: str
    image: Image
    long: tuple[str, ...] = ()
    short: tuple[str, ...] = ()
    label: str | None = None
    licence: str | None = None
    split: str | None = None
    things: tuple[Thing, ...] | None = None
    width: int | None = None
    height: int | None = None
    where: str = ""
    note: str = ""
    empty_texts: int = 0
    negative: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """A row or file that makes no item: where it stands (file and line), why, and its id where that is known."""

    where: str
    reason: str
    id: str = ""
