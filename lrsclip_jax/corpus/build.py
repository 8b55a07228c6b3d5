"""Builds a corpus by a recipe: every stage is a folder, and a stopped build continues where it stopped."""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from eval.lock import alone
from eval.output import check_folder
from eval.results import write_result
from lrsclip_jax.corpus.hygiene import leakage, licences
from lrsclip_jax.corpus.reading import read_source, with_unique_ids
from lrsclip_jax.corpus.recipe_config import WAYS, server_of
from lrsclip_jax.corpus.records import store
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.corpus.rules import caption_by_rules
from lrsclip_jax.corpus.stages import tiles, ways
from lrsclip_jax.corpus.stages.filters import LEAKAGE, planned_filters
from lrsclip_jax.corpus.stages.merging import merge
from lrsclip_jax.corpus.stages.ray_engine import run_stage_on_ray
from lrsclip_jax.corpus.stages.stage import (
    DONE,
    Planned,
    changed,
    digest,
    is_stage,
    run_stage,
    said,
    set_apart,
    set_aside,
    stages_of,
)
from lrsclip_jax.corpus.statistics.statistics_files import FILES, write_statistics
from lrsclip_jax.errors import InputError

CORPUS, SUBSETS, FILTERS, LEAKS = "corpus", "subsets", "filters", "leakage.json"
RECORDS = "records"  # the setting of a stage that says what it read
_ASKING = {
    ("summarise", "short"): ways.SUMMARISE,
    ("expand", "long"): ways.EXPAND,
    ("anchor", "long"): ways.ANCHOR,
    ("describe", "short"): ways.DESCRIBE_SHORT,
    ("describe", "long"): ways.DESCRIBE_LONG,
}


def build(config: ConfigDict, out: Path, engine: str = "local") -> list[str]:
    """Builds the corpus of a recipe in `out` and returns the lines of its table.

    `out/subsets/NAME/` and `out/filters/` have a folder for each stage; the end is `out/corpus`, Parquet files that
    `lrsclip_jax.data.prepare` reads, with the statistics next to it, and leakage.json where leaks were looked for. The
    engine, "local" or "ray", makes no difference to any record: one can continue where the other was stopped.

    Where `out` was built by a recipe with other filters or further subsets, the stages that differ and all later ones
    are made again, without asking a model; the earlier results move to `out/earlier/N/`. Other sources, ways or
    generators of a subset are refused: its texts may have cost days.

    Raises:
      InputError: `out` holds something else, or another build is at work there; the recipe asks for something that is
        not there, a subset in `out` was made otherwise, no record is left, licences are unknown, or nobody answers.
    """
    if not config.subsets:
        raise InputError("the recipe has no subsets: config.subsets = (subset(…), …)")
    check_folder(out, lambda folder: is_stage(folder / CORPUS) or (folder / FILTERS).is_dir(), begun=[SUBSETS])
    filters = planned_filters(config)  # a mistake in them is reported before any work
    with alone(out, "lrsclip corpus build"):
        return _build(config, filters, out, engine)


def _build(config: ConfigDict, filters: Sequence[Planned], out: Path, engine: str) -> list[str]:
    subsets = [_build_subset(config, row, out, engine) for row in config.subsets]
    filtered = _run_all([folders[-1] for folders in subsets], filters, out / FILTERS, out, engine)
    allowed = config.allow_unknown_licences, "--config.allow_unknown_licences=True"
    licences.check_licences(store.read(filtered[-1], ["licence"]), *allowed)
    settings = {RECORDS: _digests(filtered[-1:], out)}
    if changed(out / CORPUS, settings):
        _give_way(out, _results(out), "made of other records")
    run_stage(out / CORPUS, lambda: store.read(filtered[-1]), iter, settings)
    leaks = _leaks(dict(zip(filtered, filters, strict=True)))
    if leaks is not None:
        write_result(out / LEAKS, leaks)
    rows = itertools.chain.from_iterable(map(set_aside, [*itertools.chain.from_iterable(subsets), *filtered]))
    aside = (SetAside(row["id"], row["stage"], row["reason"]) for row in rows)
    return write_statistics(out / CORPUS, out, aside, leaks)


def _build_subset(config: ConfigDict, row: dict[str, Any], out: Path, engine: str) -> list[Path]:
    """Runs the stages of a subset and returns their folders in order."""
    folder = out / SUBSETS / row["name"]
    read = folder / "0-read"
    _run(read, lambda: _read(row["name"], row["sources"]), Planned("read", iter, {"sources": row["sources"]}))
    planned = []
    if row["tile"]:
        cut = functools.partial(tiles.cut, size=row["tile"], out=(folder / f"tiles-{row['tile']}").absolute())
        planned.append(Planned("tile", cut, {"tile": row["tile"]}))
    for step, kind in WAYS[row["way"]]:
        planned.append(_way(config, row, step, kind, folder))
    return [read, *_run_all([read], planned, folder, out, engine, first=1)]


def _way(config: ConfigDict, row: dict[str, Any], step: str, kind: str, folder: Path) -> Planned:
    if step == "rules":
        return Planned("rules", functools.partial(caption_by_rules, seed=config.seed), {"seed": config.seed})
    if step == "merge":
        others = functools.partial(_records, row["name"], row["others"])

        def joined(records: Iterable[CorpusRecord]) -> Iterator[CorpusRecord | SetAside]:
            return merge(records, others(), folder / "merge.sqlite", row["key"])

        return Planned("merge", joined, {"others": row["others"], "key": row["key"]}, one_by_one=False)
    server = server_of(config, row[kind])
    journal = folder / f"{step}-{kind}.jsonl"
    ask = functools.partial(ways.write_texts, way=_ASKING[step, kind], server=server, journal=journal)
    return Planned(f"{step}-{kind}", ask, server.settings(), asks=True)


def _run_all(
    sources: Sequence[Path], planned: Iterable[Planned], folder: Path, out: Path, engine: str, first: int = 0
) -> list[Path]:
    """Runs stages one after the other and returns their folders; each reads the one before, the first one `sources`."""
    made: list[Path] = []
    for number, plan in enumerate(planned, first):
        place = folder / f"{number}-{plan.name}"
        plan = plan._replace(settings=plan.settings | {RECORDS: _digests(sources, out)})
        differ = changed(place, plan.settings)
        if differ and (folder.name == FILTERS or differ == [RECORDS]):
            stale = [place, *stages_of(folder, number + 1), *_what_follows(folder, out)]
            _give_way(out, stale, f"made with other {', '.join(differ)}")
        _run(place, functools.partial(_read_all, sources), plan, sources, engine)
        made.append(place)
        sources = [place]
    unused = [place for place in stages_of(folder, first) if place not in made]
    if unused:
        _give_way(out, [*unused, *_what_follows(folder, out)], "not in this recipe")
    return made


def _run(
    place: Path,
    records: Callable[[], Iterable[CorpusRecord | SetAside]],
    plan: Planned,
    sources: Sequence[Path] = (),
    engine: str = "local",
) -> None:
    """Runs a stage over `records`; `sources` are the folders of the stages that they come from, if any."""
    new = not (place / DONE).exists()
    if engine == "ray" and plan.one_by_one and not plan.asks and sources:
        counts = run_stage_on_ray(place, sources, plan.stage, plan.settings)
    else:
        total = sum(map(store.count, sources)) or None
        counts = run_stage(place, records, plan.stage, plan.settings, one_by_one=plan.one_by_one, total=total)
    if new:
        print(f"{place}: {said(counts)}")
    if not counts["kept"]:
        last = [*deque(set_aside(place), maxlen=1)]
        why = f", {counts['set aside']:,} are set aside, the last one because: {last[0]['reason']}" if last else ""
        raise InputError(f"{place}: no record is left{why}")


def _digests(folders: Iterable[Path], out: Path) -> dict[str, str]:
    return {folder.relative_to(out).as_posix(): digest(folder) for folder in folders}


def _what_follows(folder: Path, out: Path) -> list[Path]:
    """The folders elsewhere that are made of the stages in a folder."""
    return [*(() if folder.name == FILTERS else stages_of(out / FILTERS)), *_results(out)]


def _results(out: Path) -> list[Path]:
    return [out / name for name in (CORPUS, LEAKS, *FILES)]


def _give_way(out: Path, stale: Sequence[Path], why: str) -> None:
    kept = set_apart(out, stale)
    print(f"{stale[0]}: {why}; {kept} keeps it, and what came of it")


def _leaks(filtered: dict[Path, Planned]) -> dict[str, Any] | None:
    """The report of the filter of leaks, from the rows that its stage has written; None without such a filter."""
    for place, plan in filtered.items():
        if plan.name == LEAKAGE:
            found = (leakage.Leak(**row) for row in set_aside(place) if "distance" in row)
            return leakage.report(found, plan.settings["images"])
    return None


def _read_all(folders: Iterable[Path]) -> Iterator[CorpusRecord]:
    return itertools.chain.from_iterable(map(store.read, folders))


def _read(name: str, sources: Iterable[dict[str, Any]]) -> Iterator[CorpusRecord | SetAside]:
    return with_unique_ids(itertools.chain.from_iterable(read_source(name=name, **options) for options in sources))


def _records(name: str, sources: Iterable[dict[str, Any]]) -> Iterator[CorpusRecord]:
    return (record for record in _read(name, sources) if isinstance(record, CorpusRecord))
