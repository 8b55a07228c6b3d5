"""What a preparation keeps on disk: its plan, the counts and checksums of every finished shard, and those of the set.

Damage is noticed when the same command runs again, on an unfinished set or a finished one: every file that was finished
is read, at the speed of the disk, and compared with its checksum. A shard that differs is named and made again; the
others stay. Training does not wait for that. It compares a record with ArrayRecord's own checksum when it reads it, and
the file of text lengths when it opens it (lrsclip_jax.data.prepared.text_lengths).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict

from tqdm import tqdm

from eval.checksums import Checksum, checksums, defects, of_bytes
from eval.seals import read_sealed, seal
from eval.whole import LOCK, SUFFIX, write_text
from lrsclip_jax.data.prepare.counts import Statistics, StatisticsDocument
from lrsclip_jax.data.prepared.records import NAME, lengths_path, shard_path
from lrsclip_jax.errors import InputError

MANIFEST, PROGRESS = "prepare.json", ".progress"
_OF_SHARD = re.compile(rf"({NAME}-\w+\.array_record|texts-\w+)-\d+-of-\d+(\.npz)?")


class Shard(NamedTuple):
    """One of the `count` shards of a split."""

    split: str
    index: int  # type: ignore[assignment]  # not the method of a tuple
    count: int  # type: ignore[assignment]  # not the method of a tuple


class Finished(NamedTuple):
    """A finished set: what was counted in each split, and the checksums of its files; older versions kept none."""

    statistics: dict[str, Statistics]
    files: dict[str, Checksum]


class _Progress(StatisticsDocument):
    plan: NotRequired[str]
    files: NotRequired[dict[str, Checksum]]


class _Manifest(TypedDict):
    statistics: NotRequired[dict[str, StatisticsDocument]]
    files: NotRequired[dict[str, Checksum]]


def files_of(out: Path, shard: Shard) -> list[Path]:
    """Returns the files of a shard: its records, and the lengths of their texts."""
    path = shard_path(out, *shard)
    return [path, lengths_path(path)]


def claim(out: Path, plan: Mapping[str, Any]) -> Finished | None:
    """Makes `out` the folder of this plan; returns what is known of the set if it is finished already.

    Raises:
      InputError: the folder can't be made, or holds a set of another plan, other files, or a damaged plan.
    """
    manifest = out / MANIFEST
    try:
        out.mkdir(parents=True, exist_ok=True)
        new = not manifest.exists()
    except OSError as error:
        raise InputError(f"{out} can't be made a folder: {error.strerror}") from None
    if new:
        others = [path.name for path in out.iterdir() if path.name not in (PROGRESS, LOCK) and path.suffix != SUFFIX]
        if others and not _begun(out, plan, others):
            raise InputError(f"{out} holds other files ({others[0]}): choose an --out that is new or empty")
        (out / PROGRESS).mkdir(exist_ok=True)
        _write(manifest, plan)
        return None
    try:
        before: dict[str, Any] = read_sealed(manifest, dict[str, Any])
        known: _Manifest = read_sealed(manifest, _Manifest)
    except InputError as error:
        continued = "delete it, and the same command continues with the shards that are finished"
        kept = "restore it, or choose another --out; training reads the set all the same"
        raise InputError(f"{error}: {continued if (out / PROGRESS).exists() else kept}") from None
    for key, value in json.loads(json.dumps(plan)).items():
        if before.get(key) != value:
            what = "from another source" if key == "source" else f"with {key}={before.get(key)}, not {value}"
            raise InputError(f"{out} was prepared {what}: choose another --out, or delete it first")
    if "statistics" not in known:
        return None
    statistics = {split: Statistics.from_json(counts) for split, counts in known["statistics"].items()}
    return Finished(statistics, known.get("files", {}))


def finish(out: Path, plan: Mapping[str, Any], finished: Finished) -> None:
    """Writes into the plan what is known of a finished set."""
    statistics = {split: counts.to_json() for split, counts in finished.statistics.items()}
    _write(out / MANIFEST, {**plan, "statistics": statistics, "files": dict(sorted(finished.files.items()))})


def add_shard(out: Path, plan: Mapping[str, Any], shard: Shard, counts: Statistics) -> dict[str, Checksum]:
    """Keeps the counts and the checksums of a finished shard, and returns the latter."""
    files = files_of(out, shard)
    found = dict(zip((file.name for file in files), checksums(files), strict=True))
    _write(_progress_path(out, shard), {**counts.to_json(), "plan": _digest(plan), "files": found})
    return found


def finished_shards(
    out: Path, plan: Mapping[str, Any], shards: Iterable[Shard]
) -> tuple[dict[Shard, Statistics], dict[str, Checksum]]:
    """Returns the counts of the finished shards and their files' checksums; a damaged one is named and left out."""
    counts: dict[Shard, Statistics] = {}
    files: dict[str, Checksum] = {}
    (out / PROGRESS).mkdir(exist_ok=True)
    for shard in tqdm(list(shards), "checking finished shards", unit=" shards", leave=False, disable=None, delay=1):
        path = _progress_path(out, shard)
        if not path.exists() or not shard_path(out, *shard).exists():
            continue
        try:
            known: _Progress = read_sealed(path, _Progress)
        except InputError as error:
            _note(str(error))
            continue
        of_shard = known.get("files", {})
        if known.get("plan", _digest(plan)) != _digest(plan):
            _note(f"{path} is of another plan")
        elif what := next((what for _, what in defects(out, of_shard)), None):
            _note(f"{out}/{what}")
        else:
            counts[shard] = Statistics.from_json(known)
            files |= of_shard or dict(
                zip((f.name for f in files_of(out, shard)), checksums(files_of(out, shard)), strict=True)
            )
    return counts, files


def damaged_files(out: Path, files: Mapping[str, Checksum]) -> set[str]:
    """Returns the names of a finished set's files that are not what was written; each is named on the terminal."""
    found = set()
    for name, what in defects(out, files):
        _note(f"{out}/{what}")
        found.add(name)
    return found


def _begun(out: Path, plan: Mapping[str, Any], others: Iterable[str]) -> bool:
    """Whether a folder without its plan holds shards of this plan alone."""
    if not all(map(_OF_SHARD.fullmatch, others)):
        return False
    try:
        known: list[_Progress] = [read_sealed(path, _Progress) for path in (out / PROGRESS).glob("*.json")]
    except InputError:
        return False
    return bool(known) and all(each.get("plan") == _digest(plan) for each in known)


def _digest(plan: Mapping[str, Any]) -> str:
    return of_bytes(json.dumps(plan, sort_keys=True).encode()).crc32


def _progress_path(out: Path, shard: Shard) -> Path:
    return out / PROGRESS / f"{shard.split}-{shard.index:05d}.json"


def _write(path: Path, document: Mapping[str, Any]) -> None:
    write_text(path, seal(json.dumps(document)) + "\n")


def _note(damage: str) -> None:
    print(f"note: {damage}; it is made again", file=sys.stderr)
