"""Checksums of files, by which damage is noticed that came after they were written.

A folder's `.checksums.json` has the size and the CRC-32 of its files:

    {"images.npy": [40128, "8f3e0a12"], …, "crc32": "91c07a3d"}

CRC-32 finds every flipped bit and every burst of up to 32 of them, and overlooks one of four billion other damages. It
is no protection against people. A core does 3 GB of it a second, more than most disks read; SHA-256 takes three times
as long with instructions for it, and seven times without.
"""

from __future__ import annotations

import json
import os
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from eval.errors import InputError
from eval.seals import read_sealed, seal
from eval.whole import write_text

NAME = ".checksums.json"  # pyarrow, pandas and datasets pass over hidden files: to them a corpus is one table
BLOCK = 1 << 20  # bytes that a thread reads at a time
_THREADS = min(16, os.cpu_count() or 1)


class Checksum(NamedTuple):
    """The size of a file in bytes, and its CRC-32 in hex; of more than one block, the CRC-32 of the blocks' CRC-32s."""

    size: int
    crc32: str


def checksums(paths: Sequence[str | os.PathLike[str]]) -> list[Checksum]:
    """Returns the checksum of each of these files, read by several threads; OSError where one can't be read."""
    sizes = [_size(path) for path in paths]
    blocks = [(path, start) for path, size in zip(paths, sizes, strict=True) for start in range(0, size, BLOCK)]
    with ThreadPoolExecutor(max(1, min(_THREADS, len(blocks)))) as pool:
        found = iter(pool.map(_crc32, blocks))
        return [Checksum(size, _joined([next(found) for _ in range(0, size, BLOCK)])) for size in sizes]


def of_bytes(data: bytes) -> Checksum:
    """Returns the checksum of a file with this content."""
    blocks = (data[start : start + BLOCK] for start in range(0, len(data), BLOCK))
    return Checksum(len(data), _joined([*map(zlib.crc32, blocks)]))


def defects(folder: str | os.PathLike[str], expected: Mapping[str, Checksum]) -> Iterator[tuple[str, str]]:
    """Yields (name, what is wrong with it) of the files that differ from what was written; in no case an OSError.

    Args:
      folder: a local one.
      expected: the checksum of each file, by its name in the folder with "/" between the parts.
    """
    there: list[str] = []
    for name, (size, _) in expected.items():
        try:
            found = _size(_inside(folder, name))
        except FileNotFoundError:
            yield name, f"{name} is missing"
        except OSError as error:
            yield name, f"{name} can't be read: {error.strerror or error}"
        else:
            if found == size:
                there.append(name)
            else:
                yield name, f"{name} has {found:,} bytes of {size:,}"
    try:
        read = checksums([_inside(folder, name) for name in there])
    except OSError as error:  # a bad sector
        name = str(error.filename or folder)
        yield name, f"{name} can't be read: {error.strerror or error}"
        return
    for name, found_now in zip(there, read, strict=True):
        if found_now.crc32 != expected[name].crc32:
            yield name, f"{name} is damaged: its content is not what was written"


def write_checksums(folder: Path, expected: Mapping[str, Checksum]) -> None:
    """Writes `.checksums.json` into a folder, whole or not at all."""
    write_text(folder / NAME, as_json(expected))


def write_checksums_of(folder: Path, names: Iterable[str]) -> None:
    """Writes `.checksums.json` with what these files of a folder hold now."""
    names = list(names)
    write_checksums(folder, dict(zip(names, checksums([folder / name for name in names]), strict=True)))


def as_json(expected: Mapping[str, Checksum]) -> str:
    """Returns the text of `.checksums.json`, a line for each file."""
    lines = (f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(expected[name])}" for name in sorted(expected))
    return seal("{\n" + ",\n".join(lines) + "\n}") + "\n"


def read_checksums(folder: str | os.PathLike[str]) -> dict[str, Checksum]:
    """Returns the checksums of a folder's files, none where it has no `.checksums.json`; InputError if that is torn."""
    path = Path(folder) / NAME
    return read_sealed(path, dict[str, Checksum]) if path.exists() else {}


def check(folder: str | os.PathLike[str], names: Iterable[str] | None = None, *, remedy: str) -> None:
    """Reads the files that a folder's `.checksums.json` names, or those of `names` among them, and compares.

    Raises:
      InputError: one differs; it names the first, and ends with `remedy`.
    """
    expected = read_checksums(folder)
    chosen = expected if names is None else {name: expected[name] for name in names if name in expected}
    for _, what in defects(folder, chosen):
        raise InputError(f"{os.fspath(folder)}/{what}: {remedy}")


def _inside(folder: str | os.PathLike[str], name: str) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise OSError(0, "it lies outside the folder")
    return Path(folder) / path


def _size(path: str | os.PathLike[str]) -> int:
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):  # a named pipe would never end
        raise OSError(0, "no regular file", os.fspath(path))
    return found.st_size


def _crc32(block: tuple[str | os.PathLike[str], int]) -> int:
    path, start = block
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return zlib.crc32(os.pread(descriptor, BLOCK, start))
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None
    finally:
        os.close(descriptor)


def _joined(blocks: Sequence[int]) -> str:
    joined = blocks[0] if len(blocks) == 1 else zlib.crc32(b"".join(crc.to_bytes(4, "big") for crc in blocks))
    return f"{joined:08x}"
