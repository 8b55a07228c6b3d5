"""What users point at, as a list of scenes: files, folders, patterns, addresses, and STAC (`stac_items`)."""

from __future__ import annotations

import email.utils
import glob
import os
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from lrsclip_jax.data.images import SUFFIXES
from lrsclip_jax.data.parallel import in_threads
from lrsclip_jax.data.remote import is_address
from lrsclip_jax.errors import InputError
from lrsclip_jax.search.stac_items import assets_of
from lrsclip_jax.sources.listing import images_below
from lrsclip_jax.sources.row_values import clean

TIMEOUT = 20  # seconds for a server to answer
_JSON = (".json", ".geojson")


@dataclass(frozen=True)
class Entry:
    """A scene of a catalogue.

    Attributes:
      scene: its name in the index, relative to the source that names it, or an address.
      source: the file as an absolute path, or its address.
      size: in bytes, None where a server does not tell.
      modified: when it was changed, in nanoseconds since 1970; None where that is not known.
      fingerprint: changes with the scene; "" where it is not known.
      date: when the scene was taken, as the catalogue has it.
      fault: why it can't be read.
    """

    scene: str
    source: str
    size: int | None = None
    modified: int | None = None
    fingerprint: str = ""
    date: datetime | None = None
    fault: str | None = None

    @property
    def path(self) -> Path | str:
        """The source as `data.rasters` takes it."""
        return self.source if is_address(self.source) else Path(self.source)


class Unreadable(NamedTuple):
    """Why a scene can't be read, and whether that lasts: the file is damaged, and still there as it was."""

    reason: str
    lasting: bool = False


def entries_of(sources: Sequence[str]) -> list[Entry]:
    """Returns the scenes of sources, in the order of their names, as they are now.

    A scene of which two sources give the same name has its full path or address as a name the second time; one that two
    sources hold is there once.

    Raises:
      InputError: a source is missing, holds no scene, or is no catalogue.
    """
    found: dict[str, Entry] = {}
    known: set[str] = set()
    for source in sources:
        here = list(_entries(source))
        if not here:
            raise InputError(f"{source}: no scenes there ({', '.join(SUFFIXES)}, or a STAC catalogue)")
        for entry in here:
            if entry.source not in known:
                known.add(entry.source)
                found[entry.source if entry.scene in found else entry.scene] = entry
    named = [replace(entry, scene=name) for name, entry in found.items()]
    return sorted(in_threads(fingerprinted, named), key=lambda entry: entry.scene)


def fingerprinted(entry: Entry) -> Entry:
    """Returns an entry with size, time of change and fingerprint as they are now, or with the fault that it has."""
    if entry.fault:
        return entry
    if is_address(entry.source):
        return _asked(entry)
    try:
        found = os.stat(entry.source)
    except (OSError, ValueError) as error:
        return replace(entry, fault=f"can't be read ({getattr(error, 'strerror', None) or error})")
    size, modified = found.st_size, found.st_mtime_ns
    return replace(entry, size=size, modified=modified, fingerprint=f"{size}-{modified}")


def unreadable(entry: Entry, error: Exception) -> Unreadable:
    """Returns why a scene can't be read, of which reading has raised an InputError or an OSError."""
    if is_address(entry.source):
        return Unreadable(_about(entry, error))
    now = fingerprinted(entry)
    if now.fault:
        return Unreadable("it disappeared while it was read")
    if now.fingerprint != entry.fingerprint:
        return Unreadable("it changed while it was read")
    return Unreadable(_about(entry, error), isinstance(error, InputError))


def _about(entry: Entry, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"can't be read ({error.strerror or error})"
    return str(error).removeprefix(f"{entry.source}: ")


def _entries(source: str) -> Iterator[Entry]:
    if is_address(source):
        if source.partition("?")[0].lower().endswith(_JSON):
            return _of_stac(source)
        return iter([Entry(source, source)])
    path = Path(source)
    if path.is_dir():
        names = ("/".join(parts) for parts in images_below(path))
        return _of_files(path, names)
    if path.is_file():
        if path.suffix.lower() in _JSON:
            return _of_stac(str(path.absolute()))
        return _of_files(path.parent, [path.name])
    if glob.has_magic(source):
        files = sorted(found for found in glob.glob(source, recursive=True) if os.path.isfile(found))
        root = Path(source[: next(n for n, letter in enumerate(source) if letter in "*?[")] + "x").parent
        if files:
            return _of_files(root, [os.path.relpath(found, root) for found in files])
    raise InputError(f"{source}: no file, folder, pattern or address of scenes is there")


def _of_files(root: Path, names: Iterable[str]) -> Iterator[Entry]:
    for name in names:
        path = str((root / name).absolute())
        try:
            path.encode()
            yield Entry(name, path)
        except UnicodeEncodeError:
            yield Entry(clean(name), clean(path), fault="its name is no UTF-8: rename it")


def _of_stac(source: str) -> Iterator[Entry]:
    for asset in assets_of(source, TIMEOUT):
        yield Entry(asset.name, asset.href, fingerprint=asset.version, date=asset.date, fault=asset.fault)


def _asked(entry: Entry) -> Entry:
    """The answer of an HTTP server about a file; object stores are not asked, the catalogue's version counts there."""
    if not entry.source.lower().startswith("http"):
        return entry
    request = urllib.request.Request(entry.source, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            headers = answer.headers
    except urllib.error.HTTPError as error:
        if error.code in (403, 405, 501):  # signed for GET alone, or no HEAD there: reading will tell
            return entry
        return replace(entry, fault=f"can't be read (HTTP status {error.code})")
    except (OSError, ValueError) as error:
        return replace(entry, fault=f"can't be read ({' '.join(str(error).split())})")
    length = headers.get("Content-Length", "")
    changed = email.utils.parsedate_to_datetime(headers["Last-Modified"]) if headers.get("Last-Modified") else None
    marks = [entry.fingerprint, headers.get("ETag"), length, headers.get("Last-Modified")]
    return replace(
        entry,
        size=int(length) if length.isdecimal() else None,
        modified=round(changed.astimezone(UTC).timestamp()) * 10**9 if changed else None,
        fingerprint=" ".join(mark for mark in marks if mark),
    )
