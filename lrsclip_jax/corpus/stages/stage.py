"""Runs one stage over records on disk: what it makes, what it sets aside, how it resumes, and what gives way to it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from eval.file_names import all_spelled
from eval.whole import whole, write_text
from lrsclip_jax.corpus.records import store
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.errors import InputError

Made = Iterator[CorpusRecord | SetAside]
Stage = Callable[[Iterator[CorpusRecord]], Made]
DONE, SETTINGS, ASIDE = "done.json", "settings.json", "set_aside.jsonl"
_DIGEST = "digest"
EARLIER = "earlier"
_STAGE = re.compile(r"(\d+)-.+")


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
      folder: of this stage: Parquet files, set_aside.jsonl, and when all is there done.json.
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
        return {name: count for name, count in _read(folder / DONE).items() if name != _DIGEST}
    if (folder / SETTINGS).exists() and not one_by_one:
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / SETTINGS, settings)
    read = _make(folder, records, stage, total)
    result = {"read": read, "kept": store.count(folder), "set aside": sum(1 for _ in set_aside(folder))}
    _write(folder / DONE, {**result, _DIGEST: store.digest(folder)})
    return result


def _make(
    folder: Path, records: Callable[[], Iterable[CorpusRecord | SetAside]], stage: Stage, total: int | None
) -> int:
    """Adds to the folder what is not there yet of what `stage` makes, and returns how many records it has read."""
    known, read = store.ids(folder) | _mended(folder), 0
    with (
        store.Writer(folder) as made,
        open(folder / ASIDE, "a", encoding="utf-8") as aside,
        tqdm(desc=folder.name, total=total, unit=" records", disable=None, leave=False) as bar,
    ):

        def put_aside(found: SetAside) -> None:
            if found.id not in known:
                aside.write(_line(asdict(found)))

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
    if not (folder / DONE).exists() and not store.parts(folder) and not any(set_aside(folder)):
        return []
    made, asked = _read(folder / SETTINGS), all_spelled(json.loads(json.dumps(settings)))
    return sorted(name for name in made | asked if made.get(name) != asked.get(name))


def digest(folder: Path) -> str:
    """Returns 32 hex digits of the records that a finished stage has made."""
    return _read(folder / DONE).get(_DIGEST) or store.digest(folder)


def set_aside(folder: Path) -> Iterator[dict[str, Any]]:
    """Yields the rows of a stage's set_aside.jsonl; a last line that a kill cut off is left out."""
    path = folder / ASIDE
    if not path.exists():
        return
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except ValueError as error:
                if next(file, None) is not None:
                    raise InputError(f"{path}, line {number}: not JSON ({error})") from None
                return
            yield row


def _mended(folder: Path) -> set[str]:
    """Takes what a kill cut off from the end of a stage's set_aside.jsonl, and returns the ids in it."""
    known = set()
    with whole(folder / ASIDE) as partial, partial.open("w", encoding="utf-8") as file:
        for row in set_aside(folder):
            known.add(row["id"])
            file.write(_line(row))
    return known


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(all_spelled(dict(row)), ensure_ascii=False) + "\n"


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, values: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(all_spelled(dict(values)), indent=1, ensure_ascii=False) + "\n")


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

    They keep their places relative to `out`. What others were made from goes last: where a kill comes between, the
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
