"""Records on disk: folders of Parquet files, or JSON lines for people; appended part by part, never torn."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from eval.whole import remove_leftovers, whole
from lrsclip_jax.corpus.records.record import CorpusRecord, Step
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Thing

PART = 2048  # records of a file: what is held in memory
_TEXTS = pa.list_(pa.string())
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "image": pa.string(),
        "source": pa.string(),
        "short": _TEXTS,
        "long": _TEXTS,
        "things": pa.list_(
            pa.struct(
                {
                    "name": pa.string(),
                    "box": pa.list_(pa.float64()),
                    "polygon": pa.list_(pa.list_(pa.float64())),
                }
            )
        ),
        "label": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "split": pa.string(),
        "licence": pa.string(),
        "provenance": pa.list_(pa.struct({"stage": pa.string(), "by": pa.string(), "detail": pa.string()})),
    }
)


def read(path: str | os.PathLike, columns: Sequence[str] | None = None) -> Iterator[CorpusRecord]:
    """Yields the records of a folder of Parquet files, in order, or of a .jsonl file; a few are in memory at a time.

    With `columns`, a part of the fields ("id", "image" and "source" are always read), others are at their defaults.
    Raises InputError for a path without records and for a torn file, naming it.
    """
    path = Path(path)
    wanted = None if columns is None else list(dict.fromkeys(("id", "image", "source", *columns)))
    if path.suffix == ".jsonl":
        yield from _of_lines(path)
        return
    files = parts(path)
    if not files:
        raise InputError(f"{path}: no records there (a folder of .parquet files or a .jsonl file is expected)")
    for file in files:
        try:
            with pq.ParquetFile(file) as parquet:
                for batch in parquet.iter_batches(PART, columns=wanted):
                    yield from map(from_row, batch.to_pylist())
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{file}: torn, or no Parquet file ({_line(error)})") from None


def count(path: str | os.PathLike) -> int:
    """Returns how many records a folder of Parquet files holds, by what the files say."""
    total = 0
    for file in parts(path):
        try:
            total += pq.read_metadata(file).num_rows
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{file}: torn, or no Parquet file ({_line(error)})") from None
    return total


def ids(path: str | os.PathLike) -> set[str]:
    """Returns the ids of what a folder of Parquet files holds so far; none where there is no such folder."""
    found: set[str] = set()
    for file in parts(path):
        found.update(pq.read_table(file, columns=["id"]).column("id").to_pylist())
    return found


def digest(path: str | os.PathLike) -> str:
    """Returns 32 hex digits of the bytes of a folder's Parquet files."""
    whole = hashlib.blake2b(digest_size=16)
    for part in parts(path):
        with open(part, "rb") as file:
            whole.update(hashlib.file_digest(file, "blake2b").digest())
    return whole.hexdigest()


def parts(path: str | os.PathLike) -> list[Path]:
    """Returns the Parquet files of a folder in order."""
    return sorted(Path(path).glob("part-*.parquet"))


class Writer:
    """Appends records to a folder: a file for every `PART` of them, whole or not at all.

    As a context manager it writes the rest when the block ends, also by an exception, so that nothing finished is lost.
    """

    def __init__(self, folder: str | os.PathLike, size: int = PART):
        self._folder, self._size = Path(folder), size
        self._rows: list[dict[str, Any]] = []
        self._folder.mkdir(parents=True, exist_ok=True)
        self._next = 1 + max((int(file.stem.removeprefix("part-")) for file in parts(folder)), default=-1)
        remove_leftovers(self._next_path())

    def write(self, record: CorpusRecord) -> None:
        """Appends a record."""
        self._rows.append(to_row(record))
        if len(self._rows) >= self._size:
            self.flush()

    def flush(self) -> None:
        """Writes what is held, as a file of its own."""
        if not self._rows:
            return
        with whole(self._next_path()) as partial:
            pq.write_table(pa.Table.from_pylist(self._rows, SCHEMA), partial, compression="zstd")
        self._next += 1
        self._rows = []

    def _next_path(self) -> Path:
        return self._folder / f"part-{self._next:06d}.parquet"

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self.flush()


def write_lines(path: str | os.PathLike, records: Iterable[CorpusRecord]) -> int:
    """Writes records as JSON lines, whole or not at all, and returns how many."""
    written = 0
    with whole(path) as partial, partial.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(to_row(record), ensure_ascii=False) + "\n")
            written += 1
    return written


def to_row(record: CorpusRecord) -> dict[str, Any]:
    """Returns a record as plain values, a row of the Parquet schema."""
    return dataclasses.asdict(record)


def from_row(row: Mapping[str, Any]) -> CorpusRecord:
    """Returns the record of such a row; what it lacks is at its default. InputError where it is no record."""
    try:
        known = {name: row[name] for name in SCHEMA.names if row.get(name) is not None}
        known |= {name: tuple(known[name]) for name in ("short", "long") if name in known}
        known["things"] = tuple(map(_thing, known.get("things", ())))
        known["provenance"] = tuple(Step(**step) for step in known.get("provenance", ()))
        return CorpusRecord(**known)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"record {row.get('id')!r}: {error}") from None


def _thing(row: Mapping[str, Any]) -> Thing:
    box = row.get("box")
    return Thing(row["name"], tuple(box) if box else None, tuple(map(tuple, row.get("polygon") or ())))


def _of_lines(path: Path) -> Iterator[CorpusRecord]:
    empty = True
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    empty = False
                    try:
                        yield from_row(json.loads(line))
                    except ValueError as error:  # InputError is one, too
                        raise InputError(f"{path}, line {number}: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from None
    if empty:
        raise InputError(f"{path}: no records in it, a JSON object a line is expected")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
