"""The one door through which JSON and arrays come in: every file is read by a schema and trusted in nothing.

    class Image(msgspec.Struct):
        id: str
        label: str | None = None

    read_json("meta.json", dict[str, Any])    read_lines("images.jsonl", Image)
    read_array("images.npy", "f4", 2)         read_arrays("part.npz", {"rows": ("f4", 2), "kept": ("i8", 1)})

A schema is a type as msgspec takes it: a `msgspec.Struct`, a `TypedDict`, a dataclass, `dict[str, int]`, … A field that
the schema does not name is passed over; a dictionary keeps all. The text of every InputError names the file, the line
and the field. Sizes are compared with the file before memory is asked for.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np

from eval import memory
from eval.errors import InputError

Schema = TypeVar("Schema")
LARGEST = 1 << 28  # bytes of one JSON document, or of one line: more is no description of anything
# Numbers in schemas: of what there is at least one, and of any size but NaN and the infinities.
Positive = Annotated[int, msgspec.Meta(ge=1)]
Finite = Annotated[float, msgspec.Meta(ge=-1e300, le=1e300)]
_BOM = b"\xef\xbb\xbf"
_MOST_SAID = 200  # characters of another library's message
_DEFLATED = 1032  # bytes that DEFLATE makes of one at most
# JSON's types in words; a schema's other names are quoted as they are.
_KINDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
}


def parse_json(data: bytes | str, where: str, schema: type[Schema] | Any = Any) -> Schema:
    """Returns the value that JSON text stands for.

    NaN and Infinity, which Python writes though JSON lacks them, are read as floats.

    Args:
      data: UTF-8, with or without a byte order mark.
      where: begins the error: a file, "FILE, line 3", or an address.
      schema: the type that is wanted.

    Raises:
      InputError: no JSON, not UTF-8, nested too deep, a number out of range, or a field that does not fit the schema.
    """
    if isinstance(data, bytes):
        data = data.removeprefix(_BOM)
    try:
        return _decoder(schema).decode(data)
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: {_misfit(error)}") from None
    except RecursionError:
        raise InputError(f"{where}: nested too deep") from None
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
        if "NaN" in text or "Infinity" in text:
            return _parse_with_nan(data, where, schema)
        raise InputError(f"{where}: {_reason(text, data, error)}") from None


def convert(value: Any, where: str, schema: type[Schema] | Any) -> Schema:
    """Returns a value of dictionaries and lists as the type `schema`; InputError as of `parse_json`."""
    try:
        return msgspec.convert(value, schema)
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: {_misfit(error)}") from None
    except RecursionError:
        raise InputError(f"{where}: nested too deep") from None


def read_json(path: str | os.PathLike[str], schema: type[Schema] | Any = Any) -> Schema:
    """Returns the value of a JSON file; InputError as of `parse_json`, or where the file can't be read."""
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > LARGEST:
            raise InputError(f"{path}: {size:,} bytes of JSON, at most {LARGEST:,} are read")
        return parse_json(_content(file, path), str(path), schema)


def read_text(path: str | os.PathLike[str]) -> str:
    """Returns the text of a file in UTF-8, without its byte order mark; InputError as of `read_json`."""
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > LARGEST:
            raise InputError(f"{path}: {size:,} bytes of text, at most {LARGEST:,} are read")
        content = _content(file, path).removeprefix(_BOM)
    try:
        return content.decode()
    except UnicodeDecodeError as wrong:
        raise InputError(f"{path}: not UTF-8 (byte {wrong.start + 1:,})") from None


def read_lines(path: str | os.PathLike[str], schema: type[Schema] | Any = Any) -> Iterator[Schema]:
    """Yields the value of each line of a JSON-lines file; blank lines are passed over.

    Raises:
      InputError: as of `read_json`, at the first line that is wrong, with its number.
    """
    for number, line in numbered_lines(path):
        if line.strip():
            yield parse_json(line, f"{path}, line {number}", schema)


def numbered_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, bytes]]:
    """Yields (number from 1, line as it stands) of a text file; InputError where it can't be read or a line is huge."""
    with _opened(path) as file:
        number = 0
        try:
            while line := file.readline(LARGEST + 1):
                number += 1
                if len(line) > LARGEST:
                    raise InputError(f"{path}, line {number}: longer than {LARGEST:,} bytes")
                yield number, line
        except OSError as error:
            raise _unreadable(path, error) from error


def read_array(path: str | os.PathLike[str], dtype: Any, dimensions: int) -> np.ndarray:
    """Returns the array of a .npy file, memory-mapped and read-only.

    Args:
      path: the file.
      dtype: the dtype that it must have.
      dimensions: how many axes it must have.

    Raises:
      InputError: the file is missing, no .npy file, shorter or longer than its header says, or of another dtype or
        number of axes.
    """
    wanted = np.dtype(dtype)
    with _opened(path) as file:
        try:
            shape, column_major, found = _header(file)
        except Exception as error:  # NumPy evaluates the header as Python: errors of many kinds come out
            raise InputError(f"{path}: no .npy array, or its header is torn ({_line(error)})") from None
        if found != wanted or len(shape) != dimensions:
            raise InputError(f"{path}: {found} of shape {shape}, expected {_axes(dimensions)} of {wanted}")
        start, size = file.tell(), os.fstat(file.fileno()).st_size
    expected = start + math.prod(shape) * wanted.itemsize
    if size != expected:
        raise InputError(f"{path}: {size:,} bytes, its header says {expected:,}: torn or damaged")
    order = "F" if column_major else "C"
    if not math.prod(shape):  # nothing can be mapped
        return np.zeros(shape, wanted, order)  # type: ignore[call-overload]
    return np.memmap(path, wanted, "r", start, shape, order)  # type: ignore[call-overload, no-any-return]


def read_arrays(path: str | os.PathLike[str], schema: Mapping[str, tuple[Any, int]]) -> dict[str, np.ndarray]:
    """Returns arrays of an .npz file by name; those that the schema does not name are passed over.

    Args:
      path: the file.
      schema: {name: (dtype, number of axes)}. The dtype "U" stands for text of any length.

    Raises:
      InputError: the file is missing or no .npz file, an array is missing, is not what the schema says, is damaged (a
        zip file keeps a checksum of each), holds more or less than its header says, or is larger than the memory.
    """
    with _opened(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return {name: _member(archive, path, name, *wanted) for name, wanted in schema.items()}
        except InputError:
            raise
        except Exception as error:  # zipfile, zlib and NumPy raise many kinds for damaged bytes
            raise InputError(f"{path}: no .npz file, or damaged ({_line(error)})") from None


def _member(archive: zipfile.ZipFile, path: Any, name: str, dtype: Any, dimensions: int) -> np.ndarray:
    where = f"{path}: {name}"
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise InputError(f"{where} is missing") from None
    memory.check(info.file_size, where)
    if info.file_size > _DEFLATED * info.compress_size + _DEFLATED:
        raise InputError(f"{where}: {info.compress_size:,} bytes can't hold {info.file_size:,}: torn or damaged")
    with archive.open(info) as stream:
        shape, column_major, found = _header(stream)
        fits = found.kind == "U" if dtype == "U" else found == np.dtype(dtype)
        if not fits or len(shape) != dimensions:
            raise InputError(f"{where}: {found} of shape {shape}, expected {_axes(dimensions)} of {dtype}")
        expected = stream.tell() + math.prod(shape) * found.itemsize
        if info.file_size != expected:
            raise InputError(f"{where}: {info.file_size:,} bytes, its header says {expected:,}: torn or damaged")
        data = bytearray(stream.read())  # to the end, where its checksum is compared
    return np.frombuffer(data, found).reshape(shape, order="F" if column_major else "C")


def _axes(dimensions: int) -> str:
    return "a matrix" if dimensions == 2 else "a vector" if dimensions == 1 else f"{dimensions} axes"


@functools.lru_cache(maxsize=64)
def _decoder_of(schema: Any) -> msgspec.json.Decoder:
    return msgspec.json.Decoder(schema)


# Types are hashable; mypy does not know it of the special forms.
_decoder: Callable[[Any], msgspec.json.Decoder] = _decoder_of


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, column_major, dtype = read(file)
    if dtype.hasobject or any(side < 0 for side in shape):
        raise ValueError(f"{dtype} of shape {shape}: only plain numbers are read")
    return shape, column_major, dtype


def _opened(path: str | os.PathLike[str]) -> Any:
    """Opens a regular file: a named pipe or a device would never end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        raise InputError(f"{path} is {'a folder' if stat.S_ISDIR(kind) else 'no regular file'}, expected a file")
    return open(descriptor, "rb")  # the caller closes it


def _content(file: Any, path: str | os.PathLike[str]) -> bytes:
    try:
        return file.read()
    except OSError as error:
        raise _unreadable(path, error) from error


def _parse_with_nan(data: bytes | str, where: str, schema: Any) -> Any:
    try:
        value = json.loads(data)
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate can't be written again
    except RecursionError:
        raise InputError(f"{where}: nested too deep") from None
    except ValueError as error:
        raise InputError(f"{where}: not JSON ({_line(error)})") from None
    return convert(value, where, schema)


def _reason(text: str, data: bytes | str, error: Exception) -> str:
    if not text.strip():
        return "empty, expected JSON"
    if isinstance(data, bytes):
        try:
            data.decode()
        except UnicodeDecodeError as wrong:
            return f"not UTF-8 (byte {wrong.start + 1:,})"
    if re.search(r"\\u[dD][89a-fA-F]", text) and "truncated" in str(error):
        return "not JSON (half of a surrogate pair, \\ud800 to \\udfff, stands alone)"
    return f"not JSON ({_line(error)})"


def _misfit(error: Exception) -> str:
    """A ValidationError in the order of all messages here: where first, then what."""
    said, _, place = str(error).partition(" - at `$")
    said = re.sub(r"`([\w |]+)`", _kinds, said)
    said = f"{said[0].lower()}{said[1:]}"
    place = place.rstrip("`").removeprefix(".")
    return f"{place}: {said}" if place else said


def _kinds(named: re.Match[str]) -> str:
    return " or ".join(_KINDS.get(kind, repr(kind)) for kind in named[1].split(" | "))


def _unreadable(path: str | os.PathLike[str], error: OSError | ValueError) -> InputError:
    return InputError(f"can't read {os.fspath(path)!r}: {getattr(error, 'strerror', None) or error}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:_MOST_SAID] or type(error).__name__
