"""Parquet: rows with the paths of images, or as Hugging Face writes them with the images' bytes."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, TypeGuard

import pyarrow as pa
import pyarrow.parquet as pq

from eval.checksums import check
from eval.file_names import readable
from eval.reading import parse_json
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Cell, Fault, Item
from lrsclip_jax.sources.listing import parquet_files, split_of_folder, split_of_shard
from lrsclip_jax.sources.numbering import numbered
from lrsclip_jax.sources.row_keys import USUAL, AskedKeys, Keys, RowReader, clean, row_reader
from lrsclip_jax.sources.source import Reading, Source, check_first

_ROWS, _IMAGES = 512, 16  # that are read together


def read_parquet(path: Path, reading: Reading) -> Source:
    """Opens a Parquet file, or a folder of them.

    The split is that of a row, of a shard's name ("train-00000-of-00002.parquet") or of its folder. Labels that are
    numbers become names where the file has them (Hugging Face's ClassLabel). Rows are not merged: each is an item.
    A torn file is an InputError when its turn comes.
    """
    files = parquet_files(path)
    name = path.name if path.is_dir() else path.stem

    def stream() -> Iterator[Item | Fault]:
        asked = AskedKeys(reading.keys)
        for file in files:
            root = reading.image_root or file.parent
            split = split_of_shard(file.stem) or (split_of_folder(file.parent.name) if file.parent != path else None)
            reader = row_reader(reading.keys, root, name, reading.template)
            for where, row in _rows(file, reading.keys):
                asked.see(row)
                yield _item(where, row, split, reader)
        asked.check(name)

    check_first(stream())
    return Source(name, lambda: numbered(stream()))


def read_cell(cell: Cell) -> bytes:
    """Returns the bytes of an image in a Parquet file; OSError where they can't be read.

    Few of the images around it are held, so that reading in about their order reads each once.
    """
    with _LOCK:
        try:
            found = _cursor(cell.file, cell.column, cell.group).read(cell.row)
        except (pa.ArrowException, StopIteration) as error:
            raise OSError(0, f"torn ({' '.join(str(error).split())[:100]})") from None
    if found is None:
        raise OSError(0, "the cell is empty")
    return found


_LOCK = threading.Lock()


class _Cursor:
    """One column of a row group, read forward."""

    def __init__(self, file: Path, column: str, group: int):
        self._opened = file, column, group
        self._restart()

    def _restart(self) -> None:
        file, column, group = self._opened
        parquet = pq.ParquetFile(readable(file), buffer_size=1 << 20)
        self._batches = parquet.iter_batches(_IMAGES, row_groups=[group], columns=[column], use_threads=False)
        self._kept: deque[tuple[int, pa.Array]] = deque(maxlen=2)
        self._end = 0

    def read(self, row: int) -> bytes | None:
        if self._kept and row < self._kept[0][0]:
            self._restart()
        while row >= self._end:
            column = next(self._batches).column(0)
            self._kept.append((self._end, column))
            self._end += len(column)
        start, column = next(kept for kept in reversed(self._kept) if kept[0] <= row)
        value = column[row - start].as_py()
        return value["bytes"] if isinstance(value, dict) else value


@functools.lru_cache(maxsize=2)
def _cursor(file: Path, column: str, group: int) -> _Cursor:
    return _Cursor(file, column, group)


def _rows(file: Path, keys: Keys) -> Iterator[tuple[str, dict[str, Any]]]:
    check(file.parent, [file.name], remedy="make it again")  # a part of a corpus has a checksum
    try:
        with pq.ParquetFile(readable(file)) as parquet:
            schema = parquet.schema_arrow
            image = _image_column(schema, keys)
            columns = _columns(schema, image, keys)
            names = _class_names(schema)
            number = 0
            for group in range(parquet.num_row_groups):
                start = number
                for batch in parquet.iter_batches(_ROWS, row_groups=[group], columns=columns):
                    for row in batch.to_pylist():
                        number += 1
                        if image:
                            place = Cell(file, image, group, number - 1 - start)
                            row = _with_cell(row, place, f"{file.stem}/{number}")
                        for column, labels in names.items():
                            row[column] = _named(row.get(column), labels)
                        yield f"{file.name}, row {number}", row
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file}: torn, or no Parquet file ({' '.join(str(error).split())[:200]})") from None


def _image_column(schema: pa.Schema, keys: Keys) -> str | None:
    """The column of images' bytes, if there is one."""
    usual = [keys.image] if keys.image else [*USUAL["image"], *schema.names]
    return next((name for name in usual if name in schema.names and _is_bytes(schema.field(name).type)), None)


def _is_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_bytes(kind.field("bytes").type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _columns(schema: pa.Schema, image: str | None, keys: Keys) -> list[str]:
    """The columns that rows are made of: no bytes, and nothing that no key names."""
    named = {part.split(".")[0] for key in keys.chosen().values() for part in (key, *key.split("/"))}
    wanted = {*named, *keys.chosen().values(), *(key for usual in USUAL.values() for key in usual)}
    columns = [name for name in schema.names if name in wanted and not _is_bytes(schema.field(name).type)]
    if image and pa.types.is_struct(schema.field(image).type) and schema.field(image).type.get_field_index("path") >= 0:
        columns.append(f"{image}.path")
    return columns


def _with_cell(row: dict[str, Any], cell: Cell, number: str) -> dict[str, Any]:
    known = row.get(cell.column)
    path = known.get("path") if isinstance(known, dict) else None
    own = row.get("id")
    return {**row, "id": path or number if own is None else own, cell.column: cell, "image": cell}


class _Info(TypedDict):
    features: dict[str, Any]


class _HuggingFace(TypedDict):
    """What the datasets library says of the columns of a file."""

    info: _Info


def _class_names(schema: pa.Schema) -> dict[str, Sequence[str]]:
    """The names of the classes in Hugging Face's columns of numbers."""
    try:
        told: _HuggingFace = parse_json((schema.metadata or {}).get(b"huggingface", b""), "metadata", _HuggingFace)
    except InputError:
        return {}
    labels = {name: it for name, it in told["info"]["features"].items() if isinstance(it, dict)}
    names = {name: it.get("names") for name, it in labels.items() if it.get("_type") == "ClassLabel"}
    return {name: of_class for name, of_class in names.items() if _are_texts(of_class)}


def _are_texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _named(value: Any, names: Sequence[str]) -> Any:
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else value


def _item(where: str, row: dict[str, Any], split: str | None, reader: RowReader) -> Item | Fault:
    try:
        item = reader.item(row, where)
    except InputError as error:
        return Fault(where, str(error), clean(str(row.get("id") or "")))
    return replace(item, split=split) if split and not item.split else item
