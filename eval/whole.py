"""Writes files whole or not at all.

A file is written under another name in the same folder, flushed to the disk, and then renamed. Readers see the old file
or the new one, never a part, also after SIGKILL or a power cut. A killed process leaves `.NAME.….incomplete` behind,
which nothing reads.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from eval.errors import InputError
from eval.file_names import writable

SUFFIX = ".incomplete"
LOCK = ".lock"  # of `eval.lock`: no file of anybody's
_LONGEST = 100  # bytes of a name that leave room for the rest; file systems take 143 (eCryptfs) or 255


class Writable(Protocol):
    """A path that writes itself: a `pathlib.Path` or an `etils.epath.Path`."""

    def __fspath__(self) -> str: ...

    def write_bytes(self, data: bytes, /) -> int: ...


@contextmanager
def whole(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[Path]:
    """Yields a path in the folder of `path`, for a file or a folder. It becomes `path` when the block ends.

        with whole("scores.npy") as partial, partial.open("wb") as file:
            np.save(file, scores)

    If the block raises, what it wrote is removed, and what is at `path` stays.

    Args:
      path: a local path. Its folder must exist. A file there is replaced, a folder with something in it is not.
      durable: flush to the disk before renaming (2 to 5 ms a file on an SSD). False is for many small files that can be
        made again: after a power cut such a file may be empty.

    Raises:
      InputError: the file can't be written; with the path and the system's reason. An OSError of the block that names
        another file, such as one that was read, passes unchanged.
    """
    target = Path(path).absolute()
    partial = beginning(target)
    try:
        yield partial
        _place(partial, target, durable)
    except OSError as error:
        if error.filename is not None and not _is_within(error.filename, partial):
            raise  # of a file that the block reads
        raise refusal(path, error) from error
    finally:
        discard(partial)


def beginning(path: Path) -> Path:
    """Returns a new path next to `path`, for `finish` or `discard`; every file system takes its length."""
    return path.with_name(f"{_prefix(path)}{secrets.token_hex(4)}{SUFFIX}")


def finish(partial: Path, path: Path) -> None:
    """Gives the written file or folder `partial` the name `path`, as `whole` does; InputError where that fails."""
    try:
        _place(partial, path, durable=True)
    except OSError as error:
        raise refusal(path, error) from error


def discard(partial: Path) -> None:
    """Removes a file or folder that was begun and given up, if it is there and can be removed."""
    if partial.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
    with contextlib.suppress(OSError):
        partial.unlink()


def remove_leftovers(path: Path) -> None:
    """Removes what killed writers of `path` have left. Only for a file that one process at a time writes."""
    for found in path.parent.glob(f"*{SUFFIX}"):
        if found.name.startswith(_prefix(path)) and len(found.name) == len(beginning(path).name):
            discard(found)


def lock_of(path: Path) -> str:
    """Returns the name of the lock for one file or folder, which lies next to it."""
    return f"{_prefix(path)}lock"


def write_text(path: Writable, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all, with the folders above it.

    Args:
      path: a local path, or an `etils.epath.Path` of an object store ("gs://…"), where every write is whole by itself.
      text: its content; line ends stay as they are.

    Raises:
      InputError: the file can't be written.
    """
    write_bytes(path, writable(text).encode())


def write_bytes(path: Writable, data: bytes) -> None:
    """Writes a file as `write_text` does."""
    try:
        if "://" in os.fspath(path):
            path.write_bytes(data)
            return
        if not (folder := Path(path).parent).exists():
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refusal(path, error) from error
    with whole(path) as partial:
        partial.write_bytes(data)


def refusal(path: str | os.PathLike[str], error: OSError) -> InputError:
    """Returns the one line for a path that can't be written, with the system's reason."""
    return InputError(f"can't write {os.fspath(path)}: {error.strerror or error}")


def _place(partial: Path, path: Path, durable: bool) -> None:
    if durable:
        for written in (partial, *partial.rglob("*")) if partial.is_dir() else (partial,):
            _flush(written)
    os.replace(partial, path)
    if durable:
        with contextlib.suppress(OSError):  # some file systems have no fsync for folders
            _flush(path.parent)


def _prefix(path: Path) -> str:
    name = os.fsencode(path.name)
    short = path.name if len(name) <= _LONGEST else hashlib.blake2b(name, digest_size=16).hexdigest()
    return f".{short}."


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_within(name: str | bytes | int, folder: Path) -> bool:
    return not isinstance(name, int) and Path(os.fsdecode(name)).is_relative_to(folder)
