"""Runs one stage over records on disk: what it makes, what it sets aside, how it resumes, and what gives way to it."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict

from tqdm import tqdm

from eval.file_names import all_spelled
from eval.reading import convert, numbered_lines
from eval.seals import parse_sealed, read_sealed, seal, seal_bytes
from eval.whole import whole, write_text
from lrsclip_jax.corpus.records import store
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.errors import InputError

Made = Iterator[CorpusRecord | SetAside]
Stage = Callable[[Iterator[CorpusRecord]], Made]
# pyarrow, pandas and datasets pass over hidden files: to them the folder is one table.
DONE, SETTINGS, ASIDE = ".done.json", ".settings.json", ".set_aside.jsonl"
_Done = TypedDict("_Done", {"read": int, "kept": int, "set aside": int, "digest": NotRequired[str]})
EARLIER = "earlier"
_STAGE = re.compile(r"(\d+)-.+")


class _Aside(TypedDict):
    id: str
    stage: str
    reason: str


class Planned(NamedTuple):
    """A stage, what its outcome depends on, whether a record's part in it depends on that record alone, and whether it
    waits for a server."""

    name: str
    stage: Stage
    settings: dict[str, Any]
    one_by_one: bool = True
    asks: bool = False


def run_stage(
    folder: Path,
    records: Callable[[], Iterable[CorpusRecord | SetAside]],
    stage: Stage,
    settings: Mapping[str, Any],
    *,
    one_by_one: bool = True,
    total: int | None = None,
) -> dict[str, int]:
    """Writes what `stage` makes of `records` into `folder`, unless that is done, and returns the counts.

    Args:
      folder: of this stage: Parquet files, .set_aside.jsonl, and when all is there .done.json.
      records: gives the records from the first on; what it has set aside itself is passed on.
      stage: makes records of records.
      settings: all that the outcome depends on; a folder made under others is refused.
      one_by_one: the outcome of a record depends on it alone. Then a stopped stage continues with the records that it
        has not made yet; otherwise it starts again.
      total: how many records there are, for the progress bar.

    Returns:
      {"read", "kept", "set aside"}.

    Raises:
      InputError: the folder was made under other settings, and errors of `records` and `stage`.
    """
    if differ := changed(folder, settings):
        raise InputError(
            f"{folder} was made with other {', '.join(differ)}: choose another --out, or delete the folder"
        )
    if (folder / DONE).exists():
        done = _done(folder)
        return {"read": done["read"], "kept": done["kept"], "set aside": done["set aside"]}
    if (folder / SETTINGS).exists() and not one_by_one:
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / SETTINGS, settings)
    read = _make(folder, records, stage, total)
    result = {"read": read, "kept": store.count(folder), "set aside": sum(1 for _ in set_aside(folder))}
    _write(folder / DONE, {**result, "digest": store.digest(folder)})
    return result


def said(counts: Mapping[str, int]) -> str:
    """Returns the counts of a stage in words; the file of what is set aside is hidden, so they name it."""
    where = f" ({ASIDE} tells why)" if counts["set aside"] else ""
    return f"{counts['kept']:,} records, {counts['set aside']:,} set aside{where}"


def _make(
    folder: Path, records: Callable[[], Iterable[CorpusRecord | SetAside]], stage: Stage, total: int | None
) -> int:
    """Adds to the folder what is not there yet of what `stage` makes, and returns how many records it has read."""
    earlier, read = store.ids(folder), 0
    known = earlier | _mended(folder)
    with (
        store.Writer(folder) as made,
        open(folder / ASIDE, "ab", buffering=0) as aside,  # a full disk is noticed at the row that finds no room
        tqdm(desc=folder.name, total=total, unit=" records", disable=None, leave=False) as bar,
    ):

        def put_aside(found: SetAside) -> None:
            if found.id in earlier:
                print(f"note: {found.id} was made before, and can't be made now: {found.reason}", file=sys.stderr)
            elif found.id not in known:
                _add(aside, asdict(found))

        def fresh() -> Iterator[CorpusRecord]:
            nonlocal read
            for record in records():
                bar.update()
                read += 1
                if isinstance(record, SetAside):
                    put_aside(record)
                elif record.id not in known:
                    yield record

        for outcome in stage(fresh()):
            if isinstance(outcome, SetAside):
                put_aside(outcome)
            elif outcome.id not in known:  # of a record in several, such as tiles, some may be made
                made.write(outcome)
    return read


def changed(folder: Path, settings: Mapping[str, Any]) -> list[str]:
    """Returns the names of the settings that differ from those a folder was made with; none while nothing is in it."""
    _rename_old_files(folder)
    if not (folder / DONE).exists() and not store.parts(folder) and not any(set_aside(folder)):
        return []
    try:
        made: dict[str, Any] = read_sealed(folder / SETTINGS, dict[str, Any])
    except InputError as error:
        raise InputError(
            f"{error}: restore it, or delete the folder, and the same command makes it again; answers of models are "
            "in their journals, and stay"
        ) from None
    asked = all_spelled(json.loads(json.dumps(settings)))
    return sorted(name for name in made | asked if made.get(name) != asked.get(name))


def _rename_old_files(folder: Path) -> None:
    """Gives the files of a stage their names of today: they once had no dot."""
    for name in (DONE, SETTINGS, ASIDE):
        if (old := folder / name.removeprefix(".")).is_file() and not (folder / name).exists():
            old.rename(folder / name)


def digest(folder: Path) -> str:
    """Returns 32 hex digits of the records that a finished stage has made."""
    return _done(folder).get("digest") or store.digest(folder)


def set_aside(folder: Path) -> Iterator[dict[str, Any]]:
    """Yields the rows of a stage's .set_aside.jsonl; a last line that a kill cut off is left out.

    Raises InputError naming a line that is damaged.
    """
    path = folder / ASIDE
    if not path.exists():
        return
    for number, line in numbered_lines(path):
        try:
            row: dict[str, Any] = parse_sealed(line, f"{path}, line {number}", dict[str, Any])
            convert(row, f"{path}, line {number}", _Aside)
        except InputError as error:
            if not line.endswith(b"\n") and not (folder / DONE).exists():
                return
            raise InputError(f"{error}: delete this line and {DONE}, and the same command finds it again") from None
        yield row


def _mended(folder: Path) -> set[str]:
    """Takes what a kill cut off from the end of a stage's .set_aside.jsonl, and returns the ids in it."""
    known = set()
    with whole(folder / ASIDE) as partial, partial.open("wb") as file:
        for row in set_aside(folder):
            known.add(row["id"])
            file.write(_line(row))
    return known


def _add(file: FileIO, row: Mapping[str, Any]) -> None:
    line = _line(row)
    try:
        written = file.write(line)
    except OSError as error:
        raise InputError(f"can't write {file.name}: {error.strerror or error}") from error
    if written != len(line):
        raise InputError(f"can't write {file.name}: the disk is full")


def _line(row: Mapping[str, Any]) -> bytes:
    return seal_bytes(json.dumps(all_spelled(dict(row)), ensure_ascii=False).encode()) + b"\n"


def _done(folder: Path) -> _Done:
    try:
        done: _Done = read_sealed(folder / DONE, _Done)
        return done
    except InputError as error:
        raise InputError(f"{error}: delete it, and the same command counts again what is there") from None


def _write(path: Path, values: Mapping[str, Any]) -> None:
    write_text(path, seal(json.dumps(all_spelled(dict(values)), indent=1, ensure_ascii=False)) + "\n")


def is_stage(folder: Path) -> bool:
    """Whether a folder with something in it is a stage's, finished or not."""
    return (folder / SETTINGS).exists()


def stages_of(folder: Path, first: int = 0) -> list[Path]:
    """Returns the folders of stages, "NUMBER-NAME", from the number `first` on, in order."""
    matches = ((_STAGE.fullmatch(path.name), path) for path in folder.glob("*-*"))
    found = sorted((int(match[1]), path) for match, path in matches if match and path.is_dir())
    return [path for at, path in found if at >= first]


def set_apart(out: Path, paths: Sequence[Path]) -> Path | None:
    """Moves what there is of `paths`, the last first, to a new folder `out/earlier/N`, and returns that one, if any.

    They keep their places relative to `out`. Files that others were made from go last: where a kill comes between, the
    first one is still found to be of another recipe.
    """
    there = [path for path in paths if path.exists()]
    if not there:
        return None
    numbers = [int(path.name) for path in (out / EARLIER).glob("*") if path.name.isdecimal()]
    kept = out / EARLIER / str(1 + max(numbers, default=0))
    for path in reversed(there):
        place = kept / path.relative_to(out)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
    return kept
