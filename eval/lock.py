"""One command at a time in a folder.

    with alone(out, "lrsclip prepare"):
        …

A file `.lock` in the folder says who is at work there: the command, its host and process, and since when. On one host
`flock` decides; it ends with its process, however that ends. Other hosts, which share the file system or the object
store (gs://…), see that the file is renewed every minute: one that was silent for ten minutes was left behind.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import hashlib
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from eval.errors import InputError
from eval.whole import LOCK, SUFFIX, discard, refusal

SILENCE = 600.0  # seconds after which another host's command counts as gone
_FIRST_BEAT, _BEAT = 5.0, 60.0  # the first one also sees whether two hosts took the lock at the same moment
_NO_FLOCK = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOLCK)  # of file systems that have none

_held: set[int] = set()  # descriptors: a forked child would hold the lock when its parent is gone


class Busy(InputError):
    """Another command is at work in a folder."""


class _Owner(msgspec.Struct):
    command: str
    host: str
    boot: str  # of the host's kernel: containers on one host have names of their own
    process: int
    since: str


@contextlib.contextmanager
def alone(folder: Any, command: str, name: str = LOCK) -> Iterator[None]:
    """A context in which no other command works in a folder, if all of them ask here.

    The folder is made where there is none, and removed at the end where it is still empty. Files that a killed command
    was writing in it are removed. One process of a run of several holds the lock for all of them.

    Args:
      folder: a local path, or an `etils.epath.Path` of an object store ("gs://…").
      command: for the others to read, such as "lrsclip prepare".
      name: of the lock; another one than the folder's own is for a file in it.

    Raises:
      InputError: another command is at work there, or the folder can't be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            _enter(stack, folder, command, name)
        except OSError as error:
            raise refusal(folder, error) from error
        yield


def _enter(stack: contextlib.ExitStack, folder: Any, command: str, name: str) -> None:
    remote = "://" in os.fspath(folder)
    if not remote:
        folder = Path(folder)
        stack.callback(_remove_empty, _made(folder))
    path = folder / name
    since = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
    owner = _Owner(command, platform.node(), _boot(), os.getpid(), since)
    if not _take_flock(stack, path, remote):
        raise _busy(folder, _read_soon(path))
    before = _read(path)
    if before and before.host != owner.host and before.boot != owner.boot:
        silent = time.time() - _changed(path)
        if silent < SILENCE:
            free = datetime.datetime.now() + datetime.timedelta(seconds=SILENCE - silent)
            raise _busy(folder, before, f"; if it was killed, the folder is free at {free:%H:%M:%S}")
    if before and not remote and name == LOCK:
        for left in folder.rglob(f".*{SUFFIX}"):
            discard(left)
    stack.callback(_release, path, owner)
    path.write_bytes(msgspec.json.encode(owner))
    ended = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, owner, folder, remote, ended), name="lock", daemon=True)
    heart.start()
    stack.callback(heart.join, 10.0)
    stack.callback(ended.set)


def _take_flock(stack: contextlib.ExitStack, path: Any, remote: bool) -> bool:
    """Whether no other process of this host has the lock; then `stack` ends by giving it back."""
    if remote:
        return _flock(stack, _stand_in(path))
    try:
        return _flock(stack, path)
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise
    return _flock(stack, _stand_in(path.absolute()))


def _stand_in(path: Any) -> Path:
    """A file of this host alone, where the file system of a lock has no flock."""
    digest = hashlib.blake2b(os.fsencode(os.fspath(path)), digest_size=16).hexdigest()
    return Path(tempfile.gettempdir()) / f"lrsclip-{os.getuid()}-{digest}.lock"


def _flock(stack: contextlib.ExitStack, path: Path) -> bool:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)  # the last owner may have removed the empty folder just now
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:
            continue
        with contextlib.ExitStack() as closing:
            closing.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            # The one who had it may have removed the file since it was opened.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    closing.pop_all()
                    _held.add(descriptor)
                    stack.callback(_close, descriptor)
                    return True


def _close(descriptor: int) -> None:
    if descriptor in _held:  # not in a forked child
        _held.remove(descriptor)
        os.close(descriptor)


def _forked() -> None:
    for descriptor in list(_held):
        _close(descriptor)


os.register_at_fork(after_in_child=_forked)


def _beat(path: Any, owner: _Owner, folder: Any, remote: bool, ended: threading.Event) -> None:
    """Shows other hosts that the owner is at work. Ends the process if another host has taken the folder over."""
    wait = _FIRST_BEAT
    while not ended.wait(wait):
        wait = _BEAT
        with contextlib.suppress(OSError):  # a network may be away for a while
            found = _read(path)
            if found and found != owner:
                print(f"error: {_busy(folder, found)}; this command ends", file=sys.__stderr__, flush=True)
                os._exit(2)  # at once: all that it still wrote would be in the other's way
            if remote:
                path.write_bytes(msgspec.json.encode(owner))
            else:
                os.utime(path)


def _release(path: Any, owner: _Owner) -> None:
    with contextlib.suppress(OSError):
        if owner.process == os.getpid() and _read(path) in (owner, None):  # None: a full disk has kept it empty
            path.unlink()


def _read(path: Any) -> _Owner | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Owner)
    except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _read_soon(path: Any) -> _Owner | None:
    """The owner of a lock that is held; it may not have written yet who it is."""
    for _ in range(20):
        if owner := _read(path):
            return owner
        time.sleep(0.05)
    return None


def _busy(folder: Any, owner: _Owner | None, more: str = "") -> Busy:
    if owner is None:
        return Busy(f"{folder}: another process is at work there: wait for its end, or choose another folder")
    return Busy(
        f"{folder}: {owner.command} is at work there (process {owner.process} on {owner.host}, since {owner.since}): "
        f"wait for its end, or choose another folder{more}"
    )


def _changed(path: Any) -> float:
    found = path.stat()
    return float(getattr(found, "st_mtime", None) or found.mtime)  # epath has names of its own


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()


def _made(folder: Path) -> Sequence[Path]:
    """Makes a folder, and returns what was made for it, the innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folders: Sequence[Path]) -> None:
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()
