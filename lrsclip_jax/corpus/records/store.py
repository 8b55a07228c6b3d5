"""Records on disk: folders of Parquet files, or JSON lines for people; appended part by part, never torn.

The checksum of every Parquet file is in `.checksums.json` next to it, and compared whenever the file is read. Files
without a checksum, of others and of older versions, are read as they are.
"""

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

from eval.checksums import check, checksums, read_checksums, write_checksums
from eval.file_names import readable
from eval.reading import convert, numbered_lines, parse_json
from eval.whole import remove_leftovers, whole
from lrsclip_jax.corpus.records.record import CorpusRecord
from lrsclip_jax.errors import InputError

PART = 2048  # records of a file: what is held in memory
NEEDED = ("id", "image", "source")
_REMEDY = "delete this file and .done.json, and the command that wrote it makes its records again"
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
        "negative": _TEXTS,
    }
)


def read(path: str | os.PathLike, columns: Sequence[str] | None = None) -> Iterator[CorpusRecord]:
    """Yields the records of a folder of Parquet files, in order, or of a .jsonl file; a few are in memory at a time.

    With `columns`, a part of the fields ("id", "image" and "source" are always read), others are at their defaults.
    Raises InputError for a path without records and for a torn or damaged file, naming it, and the column or line.
    """
    path = Path(path)
    if path.suffix == ".jsonl":
        yield from _of_lines(path)
        return
    files = parts(path)
    if not files:
        raise InputError(f"{path}: no records there (a folder of .parquet files or a .jsonl file is expected)")
    for file in files:
        yield from read_part(file, columns)


def read_part(file: Path, columns: Sequence[str] | None = None) -> Iterator[CorpusRecord]:
    """Yields the records of one Parquet file, as `read` does."""
    wanted = SCHEMA.names if columns is None else [name for name in SCHEMA.names if name in {*NEEDED, *columns}]
    for batch in _batches(file, wanted):
        for row in batch.to_pylist():
            yield from_row(row, str(file))


def count(path: str | os.PathLike) -> int:
    """Returns how many records a folder of Parquet files holds, by what the files say."""
    return sum(map(count_part, parts(path)))


def count_part(file: Path) -> int:
    """Returns how many records one Parquet file holds, by what it says."""
    try:
        return pq.read_metadata(readable(_regular(file))).num_rows
    except (pa.ArrowException, OSError) as error:
        raise _torn(file, error) from None


def ids(path: str | os.PathLike) -> set[str]:
    """Returns the ids of what a folder of Parquet files holds so far; none where there is no such folder."""
    return {name for file in parts(path) for name in ids_of_part(file)}


def ids_of_part(file: Path) -> list[str]:
    """Returns the ids of the records of one Parquet file, in order."""
    return [name for batch in _batches(file, ["id"]) for name in batch.column("id").to_pylist()]


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
        written = {file.name for file in parts(folder)}
        self._checksums = {name: found for name, found in read_checksums(self._folder).items() if name in written}
        self._next = 1 + max((int(Path(name).stem.removeprefix("part-")) for name in written), default=-1)
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
            with partial.open("wb") as file:
                pq.write_table(pa.Table.from_pylist(self._rows, SCHEMA), file, compression="zstd")
            # First the checksum: a kill between the two leaves one without a file, which the next writer removes.
            [self._checksums[self._next_path().name]] = checksums([partial])
            write_checksums(self._folder, self._checksums)
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


def from_row(row: Mapping[str, Any], where: str) -> CorpusRecord:
    """Returns the record of such a row; what it lacks is at its default.

    Raises InputError where it is no record: `where`, its id, and the field.
    """
    where = f"{where}: record {row.get('id')!r:.80}"
    known = {name: row[name] for name in SCHEMA.names if row.get(name) is not None}
    try:
        return convert(known, where, CorpusRecord)
    except InputError:  # rows of others may say nothing of a part's fields
        lists = {name: known[name] for name in ("things", "provenance") if isinstance(known.get(name), list)}
        return convert(known | {name: [*map(_known, parts)] for name, parts in lists.items()}, where, CorpusRecord)


def _known(part: Any) -> Any:
    """A thing or a step without the fields that say nothing."""
    return (
        {name: value for name, value in part.items() if value not in (None, [])} if isinstance(part, Mapping) else part
    )


def _batches(file: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The batches of a Parquet file with those of `columns` that it has, once it is known to be what was written."""
    check(file.parent, [file.name], remedy=_REMEDY)
    try:
        with pq.ParquetFile(readable(_regular(file))) as parquet:
            there = parquet.schema_arrow
            for name in columns:
                if name in there.names and not _fits(there.field(name).type, SCHEMA.field(name).type):
                    found, wanted = there.field(name).type, SCHEMA.field(name).type
                    raise InputError(f"{file}: column '{name}' is {found}, expected {wanted}")
                if name in NEEDED and name not in there.names:
                    raise InputError(f"{file}: column '{name}' is missing")
            yield from parquet.iter_batches(PART, columns=[name for name in columns if name in there.names])
    except (pa.ArrowException, OSError) as error:
        raise _torn(file, error) from None


def _fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether values of one type are values of another as Python sees them."""
    kinds = pa.types
    if kinds.is_null(found):
        return True
    if kinds.is_dictionary(found):
        return _fits(found.value_type, wanted)
    if kinds.is_list(wanted):
        lists = (kinds.is_list, kinds.is_large_list, kinds.is_list_view, kinds.is_large_list_view)
        return any(of_kind(found) for of_kind in lists) and _fits(found.value_type, wanted.value_type)
    if kinds.is_struct(wanted):
        named = {part.name: part.type for part in wanted.fields}
        return kinds.is_struct(found) and all(
            _fits(part.type, named.get(part.name, part.type)) for part in found.fields
        )
    if kinds.is_string(wanted):
        return kinds.is_string(found) or kinds.is_large_string(found) or kinds.is_string_view(found)
    return kinds.is_integer(found) or (kinds.is_floating(found) and kinds.is_floating(wanted))


def _regular(file: Path) -> Path:
    if not file.is_file():
        raise OSError(0, "no regular file")
    return file


def _torn(file: Path, error: Exception) -> InputError:
    return InputError(f"{file}: torn, or no Parquet file ({_line(error)}): {_REMEDY}")


def _of_lines(path: Path) -> Iterator[CorpusRecord]:
    empty = True
    for number, line in numbered_lines(path):
        if line.strip():
            empty = False
            where = f"{path}, line {number}"
            yield from_row(parse_json(line, where, dict[str, Any]), where)
    if empty:
        raise InputError(f"{path}: no records in it, a JSON object a line is expected")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
