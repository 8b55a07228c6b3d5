"""Builds a corpus by a recipe: every stage is a folder, and a stopped build goes on where it stopped."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from lrsclip_jax.corpus import store, tiles, ways
from lrsclip_jax.corpus.engine_ray import run_stage_on_ray
from lrsclip_jax.corpus.hygiene import balance, captions, duplicates, images, leakage, licences
from lrsclip_jax.corpus.merging import merge
from lrsclip_jax.corpus.recipe import WAYS, server_of
from lrsclip_jax.corpus.record import CorpusRecord, SetAside
from lrsclip_jax.corpus.rules import caption_by_rules
from lrsclip_jax.corpus.sources import numbered, read_source
from lrsclip_jax.corpus.stage import DONE, Stage, run_stage, set_aside
from lrsclip_jax.corpus.statistics.files import write_statistics
from lrsclip_jax.data.images import SUFFIXES
from lrsclip_jax.errors import InputError

CORPUS, SUBSETS, FILTERS = "corpus", "subsets", "filters"
_ASKING = {
    ("summarise", "short"): ways.SUMMARISE,
    ("expand", "long"): ways.EXPAND,
    ("anchor", "long"): ways.ANCHOR,
    ("describe", "short"): ways.DESCRIBE_SHORT,
    ("describe", "long"): ways.DESCRIBE_LONG,
}


class Planned(NamedTuple):
    """A stage, what its outcome depends on, whether a record's part in it depends on that record alone, and whether it
    waits for a server."""

    name: str
    stage: Stage
    settings: dict[str, Any]
    one_by_one: bool = True
    asks: bool = False


def build(config: ConfigDict, out: Path, engine: str = "local") -> list[str]:
    """Builds the corpus of a recipe in `out` and returns the lines of its table.

    `out/subsets/NAME/` and `out/filters/` have a folder for each stage; the end is `out/corpus`, Parquet files that
    `lrsclip_jax.data.prepare` reads, with the statistics beside it. The engine, "local" or "ray", makes no difference
    to any record: one can go on where the other was stopped.

    Raises:
      InputError: the recipe asks for something that is not there, `out` was built by another recipe, licences are
        unknown, or nobody answers.
    """
    if not config.subsets:
        raise InputError("the recipe has no subsets: config.subsets = (subset(…), …)")
    subsets = [_build_subset(config, row, out / SUBSETS / row["name"], engine) for row in config.subsets]
    filters: list[Path] = []
    _run_all([folders[-1] for folders in subsets], _filters(config), out / FILTERS, filters, engine)
    licences.check_licences(store.read(filters[-1], ["licence"]), config.allow_unknown_licences)
    stages = [*itertools.chain.from_iterable(subsets), *filters]
    run_stage(out / CORPUS, lambda: store.read(filters[-1]), iter, {"of": [str(f.relative_to(out)) for f in stages]})
    rows = itertools.chain.from_iterable(map(set_aside, stages))
    return write_statistics(out / CORPUS, out, (SetAside(row["id"], row["stage"], row["reason"]) for row in rows))


def _build_subset(config: ConfigDict, row: dict[str, Any], folder: Path, engine: str) -> list[Path]:
    """Runs the stages of a subset and returns their folders in order."""
    read = folder / "0-read"
    _run(read, lambda: _read(row["name"], row["sources"]), Planned("read", iter, {"sources": row["sources"]}))
    made = [read]
    planned = []
    if row["tile"]:
        cut = functools.partial(tiles.cut, size=row["tile"], out=(folder / "tiles").absolute())
        planned.append(Planned("tile", cut, {"tile": row["tile"]}))
    for step, kind in WAYS[row["way"]]:
        planned.append(_way(config, row, step, kind, folder))
    _run_all([read], planned, folder, made, engine)
    return made


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
    return Planned(f"{step}-{kind}", ask, {"base_url": server.base_url, **server.settings()}, asks=True)


def _filters(config: ConfigDict) -> Iterator[Planned]:
    """The stages that every record of every subset passes, in order."""
    yield Planned("images", functools.partial(images.check_images, **config.images), config.images.to_dict())
    if config.duplicates == "perceptual":
        near = functools.partial(duplicates.without_duplicates, distance=config.duplicate_distance)
        yield Planned("duplicates", near, {"distance": config.duplicate_distance}, one_by_one=False)
    elif config.duplicates == "exact":
        yield Planned("duplicates", duplicates.without_copies, {}, one_by_one=False)
    elif config.duplicates is not None:
        raise InputError(f"config.duplicates is {config.duplicates!r}: 'perceptual', 'exact' or None is expected")
    if config.leakage:
        sets = config.leakage.to_dict()
        folders = tuple((name, str(Path(folder).absolute())) for name, folder in sets.items())
        apart = functools.partial(_without_leaks, folders, config.leakage_distance)
        yield Planned("leakage", apart, {"sets": sets, "distance": config.leakage_distance})
    bounds = {"short": tuple(config.texts.short), "long": tuple(config.texts.long)}
    yield Planned("texts", functools.partial(captions.bound_captions, **bounds), bounds)
    if config.texts.uses is not None:
        capped = functools.partial(captions.cap_captions, limit=config.texts.uses)
        yield Planned("uses", capped, {"uses": config.texts.uses}, one_by_one=False)
    if config.balance.limit is not None:
        groups = {"label": balance.by_label, "source": balance.by_source}
        if config.balance.by not in groups:
            raise InputError(f"config.balance.by is {config.balance.by!r}: {' or '.join(groups)} is expected")
        even = functools.partial(
            balance.balance, group=groups[config.balance.by], limit=config.balance.limit, seed=config.seed
        )
        yield Planned("balance", even, {**config.balance.to_dict(), "seed": config.seed}, one_by_one=False)


def _without_leaks(sets: tuple[tuple[str, str], ...], distance: int, records: Iterable[CorpusRecord]) -> Iterator:
    return leakage.without_leaks(records, _references(sets), distance)


@functools.cache  # a worker of Ray runs the stage many times
def _references(sets: tuple[tuple[str, str], ...]) -> leakage.References:
    return leakage.hash_references({name: _images_below(folder) for name, folder in sets})


def _images_below(folder: str) -> list[Path]:
    found = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError(f"{folder}: no images in it")
    return found


def _run_all(sources: Sequence[Path], planned: Iterable[Planned], folder: Path, made: list[Path], engine: str) -> None:
    """Runs stages one after the other; each reads what the one before has written, the first one `sources`."""
    for number, plan in enumerate(planned, len(made)):
        place = folder / f"{number}-{plan.name}"
        _run(place, functools.partial(_read_all, sources), plan, sources, engine)
        made.append(place)
        sources = [place]


def _run(
    place: Path,
    records: Callable[[], Iterable[CorpusRecord | SetAside]],
    plan: Planned,
    sources: Sequence[Path] = (),
    engine: str = "local",
) -> None:
    """Runs a stage over `records`, which where they come from stages before are those of `sources`."""
    new = not (place / DONE).exists()
    if engine == "ray" and plan.one_by_one and not plan.asks and sources:
        counts = run_stage_on_ray(place, sources, plan.stage, plan.settings)
    else:
        total = sum(map(store.count, sources)) or None
        counts = run_stage(place, records, plan.stage, plan.settings, one_by_one=plan.one_by_one, total=total)
    if new:
        print(f"{place}: {counts['kept']:,} records, {counts['set aside']:,} set aside")


def _read_all(folders: Iterable[Path]) -> Iterator[CorpusRecord]:
    return itertools.chain.from_iterable(map(store.read, folders))


def _read(name: str, sources: Iterable[dict[str, Any]]) -> Iterator[CorpusRecord | SetAside]:
    return numbered(itertools.chain.from_iterable(read_source(name=name, **options) for options in sources))


def _records(name: str, sources: Iterable[dict[str, Any]]) -> Iterator[CorpusRecord]:
    return (record for record in _read(name, sources) if isinstance(record, CorpusRecord))
