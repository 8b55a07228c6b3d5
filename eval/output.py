"""Where commands may write: checked in one place, before any work is done.

    check_folder(out, ours=lambda folder: (folder / "meta.json").exists())

A folder is taken if it is new, empty, or of the same command; nothing else that is in one is ever written over.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from eval.errors import InputError
from eval.whole import LOCK, SUFFIX, refusal

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # a `Path` of "gs://…" has one slash


def check_folder(
    path: str | os.PathLike[str], ours: Callable[[Path], bool], *, begun: Collection[str] = (), option: str = "--out"
) -> Path:
    """Returns a folder that a command may write into; it may not be there yet, and is not made.

    Args:
      path: a local path.
      ours: whether a folder with something in it is one of this command's.
      begun: names that alone in a folder make it one where this command was stopped at its beginning.
      option: that named it.

    Raises:
      InputError: it can't be made or written, or holds something else.
    """
    folder = check_place(path, option)
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{option}={folder} is a file, a folder is expected")
        if (other := first_file(folder, begun)) and not ours(folder):
            raise InputError(f"{folder} holds other files ({other}): give another {option}, new or empty")
    except OSError as error:
        raise refusal(folder, error) from error
    return folder


def check_place(path: str | os.PathLike[str], option: str = "--out") -> Path:
    """Returns a path at which a file or folder could be written, whose folders may be missing.

    Raises:
      InputError: an address such as gs://…, an empty name or one too long, below a file, or in a folder or on a disk
        that can't be written.
    """
    name = os.fspath(path)
    if _ADDRESS.match(name):
        raise InputError(f"{option}={name}: a local or mounted folder is expected; copy the result from there")
    if not name:
        raise InputError(f"{option} is empty: a path is expected")
    place = Path(name)
    try:
        there = next(found for found in (place.absolute(), *place.absolute().parents) if found.exists())
        longest = os.pathconf(there, "PC_NAME_MAX")
        if any(len(os.fsencode(part)) > longest for part in place.parts):
            raise InputError(f"{option}={name:.80}…: a name of more than {longest} bytes")
        if there.is_dir():
            _check_disk(there)
        elif there != place.absolute():
            raise InputError(f"{option}={name}: {there} is a file, a folder is expected")
    except OSError as error:
        raise refusal(f"{name:.200}", error) from error
    return place


def first_file(folder: Any, but: Collection[str] = ()) -> str | None:
    """Returns the first name in a folder; None where it is new or empty.

    Args:
      folder: a local path, or an `etils.epath.Path`.
      but: names that do not count, like the lock and files that a killed command was writing.
    """
    if not folder.exists():
        return None
    names = (path.name for path in folder.iterdir() if path.suffix != SUFFIX)
    return min((name for name in names if name != LOCK and name not in but), default=None)


def _check_disk(folder: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        code = errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(code, os.strerror(code))
    disk = os.statvfs(folder)
    free = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail
    if disk.f_blocks and not free:  # some report no blocks at all
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
