"""The manifest of a checkpoint: the checksums of its files, written once it is complete, so that later damage shows.

On an object store (gs://…) it has sizes alone: the store keeps a checksum of every object itself, and reading all of a
checkpoint again would cost as much as writing it. Manifests of sizes alone, which older versions wrote, still count.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from etils import epath

from eval.checksums import Checksum, as_json, checksums, defects, of_bytes
from eval.reading import parse_json
from eval.seals import parse_sealed
from eval.whole import write_text
from lrsclip_jax.errors import InputError

NAME = "manifest.json"
METADATA = "_CHECKPOINT_METADATA"  # Orbax's JSON on the checkpoint, with ours in it
# Orbax writes these after the manifest: a marker of which nobody reads what it says, and the time in METADATA.
_MARKER, _WRITTEN_AT = "commit_success.txt", "commit_timestamp_nsecs"
_PATIENCE = 300.0  # seconds


def write(folder: epath.Path, about: dict[str, Any]) -> None:
    """Writes the checksum of every file of a complete checkpoint, by its path inside the folder.

    Args:
      folder: of the checkpoint.
      about: the custom metadata that Orbax was given. It writes them in a thread of its own, which may be late.

    Raises:
      InputError: METADATA did not come.
    """
    names = [(top / name).relative_to(folder).as_posix() for top, _, found in folder.walk() for name in found]
    names = sorted(set(names) - {NAME, METADATA, _MARKER})
    if _checks_itself(folder):
        with ThreadPoolExecutor(16) as pool:  # every size is a request
            sizes = pool.map(lambda name: (folder / name).stat().length, names)
            text = json.dumps(dict(zip(names, sizes, strict=True)), indent=0) + "\n"
    else:
        found = dict(zip(names, checksums([folder / name for name in names]), strict=True))
        text = as_json(found | {METADATA: _of_metadata_with(folder, about)})
    write_text(folder / NAME, text)


def damage(folder: epath.Path, parts: Sequence[str] | None = None) -> str | None:
    """Returns which file of a checkpoint is missing, cut off or altered, or None.

    Args:
      folder: of the checkpoint; one without a manifest counts as whole.
      parts: the files and sub-folders that are looked at; None: all.
    """
    manifest = folder / NAME
    if not manifest.exists():
        return None
    schema: Any = dict[str, Checksum | int]
    try:
        expected: dict[str, Checksum | int] = parse_sealed(manifest.read_bytes(), NAME, schema)
    except InputError as error:
        return str(error)
    chosen = {name: found for name, found in expected.items() if parts is None or name.split("/")[0] in parts}
    sizes = {name: found for name, found in chosen.items() if isinstance(found, int)}
    sums = {name: found for name, found in chosen.items() if not isinstance(found, int)}
    described = sums.pop(METADATA, None)
    try:
        if described and described != _of_metadata(_metadata(folder)):
            return f"{METADATA} is damaged: its content is not what was written"
    except InputError as error:
        return str(error)
    found = itertools.chain(_by_size(folder, sizes), (what for _, what in defects(folder, sums)))
    return next(found, None)


def _checks_itself(folder: epath.Path) -> bool:
    return "://" in os.fspath(folder)


def _of_metadata_with(folder: epath.Path, about: dict[str, Any]) -> Checksum:
    """The checksum of METADATA, once `about` stands in it."""
    until = time.monotonic() + _PATIENCE
    while True:
        late = f"{METADATA} was not written within {_PATIENCE:.0f} seconds"
        try:
            found = _metadata(folder)
            if _as_text(found.get("custom_metadata")) == _as_text(about):
                return _of_metadata(found)
        except InputError as error:  # half of it is there
            late = str(error)
        if time.monotonic() > until:
            raise InputError(late)
        time.sleep(0.005)


def _metadata(folder: epath.Path) -> dict[str, Any]:
    try:
        return parse_json((folder / METADATA).read_bytes(), METADATA, dict[str, Any])
    except FileNotFoundError:
        raise InputError(f"{METADATA} is missing") from None
    except OSError as error:
        raise InputError(f"{METADATA} can't be read: {error.strerror or error}") from None


def _of_metadata(found: dict[str, Any]) -> Checksum:
    """The checksum of what METADATA says, but for the time that Orbax adds last."""
    return of_bytes(_as_text(found | {_WRITTEN_AT: None}).encode())


def _as_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)  # equal also for tuples, which JSON makes lists, and for NaN


def _by_size(folder: epath.Path, sizes: dict[str, int]) -> Iterator[str]:
    def length(name: str) -> int | None:
        try:
            return (folder / name).stat().length
        except OSError:
            return None

    with ThreadPoolExecutor(16) as pool:  # on gs:// every size is a request
        for name, found in zip(sizes, pool.map(length, sizes), strict=True):
            if found is None:
                yield f"{name} is missing"
            elif found != sizes[name]:
                yield f"{name} has {found:,} bytes of {sizes[name]:,}"
