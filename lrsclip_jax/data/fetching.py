"""Files at addresses as copies on this machine: http, https, gs and s3. A lost connection continues where it broke.

Copies stay in ~/.cache/lrsclip_jax/shards, or below XDG_CACHE_HOME, and are used again as long as the server says that
a file is the same.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import random
import shutil
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypedDict
from urllib.parse import unquote, urlsplit, urlunsplit

from eval.reading import read_json
from eval.redaction import redacted
from eval.whole import SUFFIX, beginning, discard, finish, write_text
from lrsclip_jax.errors import InputError, MissingPackage

# urllib.request, http.client and email take a while to import, and are imported where an address is read.
if TYPE_CHECKING:
    from email.message import Message

PASSING = (408, 409, 429)  # statuses that may pass, and all from 500
LONGEST = 60.0  # seconds between two tries that the server doesn't ask for
_TRIES = 5  # in a row that bring nothing
_FIRST_WAIT = 1.0  # seconds
_PATIENCE = 600.0  # seconds that a server may ask to wait
_TIMEOUT = 20.0  # seconds without a byte
_GIVEN_UP = 86_400.0  # seconds
_CHUNK = 1 << 20


class Unreachable(InputError):
    """An address that was tried again and again without an answer."""


class NoRoom(InputError):
    """This machine can't keep a copy: no other would fare better."""


class Passing(Exception):
    """A failure that may pass, and the seconds that the server asks to wait."""

    def __init__(self, reason: str, wait: float = 0.0):
        super().__init__(reason)
        self.wait = wait


class _Unchanged(Exception):
    """The file is the one of the version that was asked about."""


class _Answer(NamedTuple):
    """A file that is being sent: where the bytes begin, how many the whole file has, and which version it is."""

    source: BinaryIO
    start: int
    size: int | None
    version: str


class _Copy(TypedDict):
    address: str
    size: int
    version: str


def back_off(failures: int, first: float) -> float:
    """Returns the seconds to wait after `failures` in a row, from 1: doubled each time, less up to half at random."""
    return random.uniform(0.5, 1.0) * min(LONGEST, first * 2.0 ** min(failures - 1, 60))


def retry_after(headers: Mapping[str, str] | Message) -> float:
    """Returns the seconds that a server asks to wait (Retry-After in seconds or as a date), 0 where it doesn't."""
    from email.utils import parsedate_to_datetime

    value = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value).astimezone(UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def wait_after(failure: Passing, failures: int, name: str) -> None:
    """Waits after `failures` in a row, from 1; Unreachable, with the name of what was asked for, if too many."""
    if failures == _TRIES or failure.wait > _PATIENCE:
        raise Unreachable(f"{name}: can't be read ({failure}; tried {failures} times)") from None
    time.sleep(max(failure.wait, back_off(failures, _FIRST_WAIT)))


def shown(address: str) -> str:
    """Returns an address without user, password and query, as it may stand in messages and files."""
    try:
        scheme, place, path, _, _ = urlsplit(address)
    except ValueError:  # no address
        return redacted(address)
    return urlunsplit((scheme, place.rpartition("@")[2], path, "", ""))


def path_in(address: str) -> PurePosixPath:
    """Returns the path in an address; InputError where it is none."""
    try:
        return PurePosixPath(urlsplit(address).path)
    except ValueError:
        raise InputError(f"{redacted(address)}: no address of a file") from None


def cache() -> Path:
    """Returns the folder of copies, which is made where it is missing; InputError where that fails."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lrsclip_jax/shards"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: can't be made ({error.strerror}): set XDG_CACHE_HOME") from None
    return folder


def sweep() -> None:
    """Removes copies that were begun and given up, as by Ctrl-C: those that nobody has written to for a day."""
    for partial in cache().glob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError):  # another process removes it, too
            if time.time() - partial.stat().st_mtime > _GIVEN_UP:
                partial.unlink()


def cached(address: str) -> Path:
    """Returns the copy of the file at an address, which is fetched where it is missing or has changed.

    Raises:
      InputError: there is no such file, or it is refused.
      NoRoom: the disk is full.
      Unreachable: no answer for as long as is waited.
      MissingPackage: reading gs:// or s3:// needs an extra.
    """
    place = cache() / f"{hashlib.sha256(shown(address).encode()).hexdigest()[:32]}.tar"
    about, partial = place.with_suffix(".json"), beginning(place)
    try:
        version = fetch(address, partial, _version(place, about))
        if version is not None:
            size = partial.stat().st_size
            finish(partial, place)
            write_text(about, json.dumps({"address": shown(address), "size": size, "version": version}))
    except OSError as error:
        raise NoRoom(f"{shown(address)}: its copy can't be written ({place.parent}: {error.strerror})") from None
    except InputError as error:
        raise NoRoom(str(error)) if isinstance(error.__cause__, OSError) else error from None
    finally:
        discard(partial)
    return place


def fetch(address: str, to: Path, known: str = "") -> str | None:
    """Writes the file at an address to `to`, and returns its version, or None where it is the one of version `known`.

    A version is "" where the server tells none. Raises InputError and Unreachable as `cached`; OSError of the disk.
    """
    failures = 0
    version = ""
    with open(to, "wb") as file:
        while True:
            before = file.tell()
            try:
                with _opened(address, before, version if before else known, resumes=before > 0) as answer:
                    _check_room(address, answer, to.parent)
                    file.seek(answer.start)
                    file.truncate()
                    version = answer.version
                    file.writelines(_chunks(address, answer.source))
                if answer.size is None or file.tell() >= answer.size:
                    return version
                raise Passing("the connection was lost")
            except _Unchanged:
                return None
            except Passing as failure:
                failures = failures + 1 if file.tell() <= before else 1
                wait_after(failure, failures, shown(address))


def _version(place: Path, about: Path) -> str:
    """The version of a copy; "" where there is none, or it was cut off."""
    try:
        found: _Copy = read_json(about, _Copy)
        return found["version"] if place.stat().st_size == found["size"] else ""
    except (InputError, OSError):
        return ""


def _check_room(address: str, answer: _Answer, folder: Path) -> None:
    needed, free = (answer.size or 0) - answer.start, shutil.disk_usage(folder).free
    if needed > free:
        raise NoRoom(f"{shown(address)}: {needed:,} bytes, {folder} has room for {free:,}: set XDG_CACHE_HOME")


def _chunks(address: str, source: BinaryIO) -> Iterator[bytes]:
    while True:
        with _failures_of(address):
            chunk = source.read(_CHUNK)
        if not chunk:
            return
        yield chunk


@contextlib.contextmanager
def _opened(address: str, start: int, version: str, resumes: bool) -> Iterator[_Answer]:
    """Opens a file from a byte on, or from the first one where the server wants that."""
    with _failures_of(address):
        read = _http if address[:4].lower() == "http" else _object
        opened = read(address, start, version, resumes)
    if not resumes and version and opened.version == version:
        opened.source.close()
        raise _Unchanged
    with contextlib.closing(opened.source):
        yield opened


def _http(address: str, start: int, version: str, resumes: bool) -> _Answer:
    import urllib.request

    headers = {"User-Agent": "lrsclip_jax"}
    if resumes:
        headers["Range"] = f"bytes={start}-"
    if version:
        tag = version.startswith('"')
        headers["If-Range" if resumes else "If-None-Match" if tag else "If-Modified-Since"] = version
    parts = urlsplit(address)
    request = urllib.request.Request(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), headers=headers)
    if parts.username:  # where the server sends us on to, they are nobody's business
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    answer = urllib.request.urlopen(request, timeout=_TIMEOUT)
    tag = answer.headers.get("ETag", "")
    told = tag if tag.startswith('"') else answer.headers.get("Last-Modified", "")
    if answer.status == 206 and told != version:  # it has changed, and the server pays no heed to If-Range
        answer.close()
        return _http(address, 0, "", False)
    start = start if answer.status == 206 else 0
    length = answer.headers.get("Content-Length", "")
    return _Answer(answer, start, start + int(length) if length.isdecimal() else None, told)


def _object(address: str, start: int, version: str, resumes: bool) -> _Answer:
    import fsspec  # takes a while to import, and gcsfs or s3fs

    files, path = fsspec.core.url_to_fs(address)
    size, told = files.size(path), files.ukey(path)
    source: Any = files.open(path, "rb")
    start = start if resumes and told == version else 0
    source.seek(start)
    return _Answer(source, start, size, told)


@contextlib.contextmanager
def _failures_of(address: str) -> Iterator[None]:
    """Turns what networks raise into Passing, or InputError where another try would do no better."""
    import http.client
    import urllib.error

    try:
        yield
    except urllib.error.HTTPError as error:
        if error.code == 304:
            raise _Unchanged from None
        if error.code in PASSING or error.code >= 500:
            raise Passing(f"HTTP status {error.code}", retry_after(error.headers)) from None
        raise InputError(f"{shown(address)}: can't be read (HTTP status {error.code})") from None
    except (FileNotFoundError, PermissionError) as error:
        said = "no such file" if isinstance(error, FileNotFoundError) else "no right to read it"
        raise InputError(f"{shown(address)}: {said}") from None
    except ImportError:
        extra = "gcs" if address[:2].lower() == "gs" else "s3"
        raise MissingPackage(f"{address[:2]}:// needs a package: pip install 'lrsclip_jax[{extra}]'") from None
    except (ValueError, http.client.InvalidURL) as error:
        raise InputError(f"{shown(address)}: no address of a file ({' '.join(str(error).split())})") from None
    except Exception as error:  # a network fails in the types of many libraries
        said = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise Passing(" ".join(str(said).split())[:200] or type(error).__name__) from None
