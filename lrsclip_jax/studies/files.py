"""The files of a study in its workdir: what it is of, results as JSON and CSV, and its embedding sets."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from eval.embeddings import META, finish_set, open_set
from eval.errors import InputError
from eval.output import check_folder
from eval.results import made_by
from eval.seals import read_sealed, seal
from eval.suite.result_files import safe_name
from eval.whole import beginning, discard, finish, write_text
from lrsclip_jax import config as configs
from lrsclip_jax.config import recipes
from lrsclip_jax.studies.results import Found
from lrsclip_jax.studies.study import Study, check, headings
from lrsclip_jax.studies.trainings import RUNS, Cell, PlannedStudy, set_name

STUDY, RESULTS, TABLE, SEEDS, PAGE = "study.json", "results.json", "table.csv", "seeds.csv", "study.html"
SETS = "sets"


class _Kept(msgspec.Struct):
    """What a study's folder is of."""

    study: str
    table: str
    config: dict[str, Any]
    measured: list[str]


def load(spec: str) -> tuple[str, Study]:
    """Returns the name and the study of a study file, NAME, FILE.py or either with ":DATA".

    Raises InputError as `recipes.call_function` and `study.check` do.
    """
    folders = [folder / "studies" for folder in recipes.shipped()]
    file, _ = recipes.find(spec, folders, "study")
    study = recipes.call_function(spec, folders, "get_study", Study)
    check(study, spec)
    if file.stem == RUNS:
        raise InputError(f"{spec}: a study can't be called {RUNS}: rename {file}")
    return file.stem, study


def check_workdir(workdir: Path) -> None:
    """Raises InputError where a workdir of studies can't be made, or holds something else."""

    def is_ours(folder: Path) -> bool:
        return (folder / RUNS).is_dir() and not (folder / "config.json").exists()

    check_folder(workdir, is_ours, option="--workdir")


def claim(plan: PlannedStudy, workdir: Path) -> Path:
    """Makes the folder of a study in a workdir, and returns it.

    Raises InputError where it holds a study of that name with another base recipe or other measured sets.
    """
    folder = workdir / plan.name
    ours = _Kept(plan.name, plan.study.table, plan.config.to_dict(), [set_name(each) for each in plan.measured])
    if (folder / STUDY).exists():
        try:
            kept: _Kept = read_sealed(folder / STUDY, _Kept)
        except InputError as error:
            raise InputError(f"{error}: delete the file, and the same command continues") from None
        differences = configs.curve_differences(kept.config, plan.config)
        if kept.measured != ours.measured:
            differences.append(f"measured: {', '.join(kept.measured)} -> {', '.join(ours.measured)}")
        if (kept.study, kept.table) != (ours.study, ours.table):
            differences.append(f"study: {kept.study} {kept.table} -> {ours.study} {ours.table}")
        if differences:
            raise InputError(
                f"{folder} holds another study of this name ({'; '.join(differences)}): give another --workdir"
            )
    (workdir / RUNS).mkdir(parents=True, exist_ok=True)  # by which a workdir is known
    write_text(folder / STUDY, seal(json.dumps(msgspec.to_builtins(ours), indent=1)) + "\n")
    return folder


def write_results(found: Found, folder: Path, failures: Sequence[str]) -> None:
    """Writes the results of a study as JSON and as two CSV files: a row a variant, and a row a seed."""
    write_text(folder / RESULTS, seal(json.dumps(document(found, failures), indent=1, ensure_ascii=False)) + "\n")
    write_text(folder / TABLE, _csv(_table_rows(found)))
    write_text(folder / SEEDS, _csv(_seed_rows(found)))


def document(found: Found, failures: Sequence[str]) -> dict[str, Any]:
    """Returns the results as JSON types."""
    study = found.plan.study
    return {
        "study": found.plan.name,
        "table": study.table,
        "title": study.title,
        "base": study.base,
        "seeds": sorted({cell.seed for cell in found.plan.cells}),
        "measured": [each.source for each in found.plan.measured],
        "variants": [
            {
                "name": variant.name,
                "heads": dict(variant.heads),
                "scores": {name: _score(cells) for name, cells in found.table[variant.name].items()},
            }
            for variant in study.variants
        ],
        "verdicts": [
            {
                "claim": each.claim.said,
                "score": each.claim.score,
                "verdict": each.verdict,
                "why": each.why,
                "differences": {f"{each.claim.better} - {name}": list(gap) for name, gap in each.differences.items()},
            }
            for each in found.verdicts
        ],
        "missing": [str(cell) for cell in found.missing],
        "failures": list(failures),
        "made_by": made_by(),
    }


def link_sets(plan: PlannedStudy, cells: Sequence[Cell], workdir: Path, folder: Path) -> None:
    """Gives a study embedding sets of its own, whose meta.json says which row of it they are.

    Their files are hard links where the file system has them: trainings are shared among studies, a row is not.
    """
    for cell in cells:
        for measured in plan.measured:
            source = cell.training.folder(workdir) / SETS / set_name(measured)
            if not (source / META).exists():
                continue
            target = folder / SETS / safe_name(cell.variant.name) / f"seed{cell.seed}" / set_name(measured)
            meta = {**open_set(source).meta, "model": cell.variant.name, "study": row_of(plan, cell)}
            if not _is_linked(target, source, meta):
                _link(source, target, meta)


def row_of(plan: PlannedStudy, cell: Cell) -> dict[str, Any]:
    """Returns the field `study` of meta.json, see `eval.papers.studies.Study`."""
    table = plan.study.table or f"own:{plan.name}"
    return {"table": table, "heads": dict(cell.variant.heads), "seed": cell.seed}


def _is_linked(target: Path, source: Path, meta: Mapping[str, Any]) -> bool:
    with contextlib.suppress(InputError, OSError):
        same = os.path.samefile(target / "images.npy", source / "images.npy")
        return same and dict(open_set(target).meta) == dict(meta)
    return False


def _link(source: Path, target: Path, meta: Mapping[str, Any]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = beginning(target)
    try:
        partial.mkdir()
        for file in source.iterdir():
            if file.suffix in (".npy", ".jsonl") and not file.name.startswith("."):
                try:
                    os.link(file, partial / file.name)
                except OSError:
                    shutil.copyfile(file, partial / file.name)
        finish_set(partial, meta)
        if target.exists():
            shutil.rmtree(target)
        finish(partial, target)
    finally:
        discard(partial)


def _score(cells: Any) -> dict[str, Any]:
    return {
        "mean": cells.mean,
        "spread": cells.spread,
        "of_seed": {str(seed): value for seed, value in cells.of_seed.items()},
        "difference": cells.difference and list(cells.difference),
        "published": cells.published,
    }


def _table_rows(found: Found) -> Iterator[Sequence[Any]]:
    heads = headings(found.plan.study)
    yield ("study", *heads, "score", "seeds", "mean", "spread", "difference", "low", "high", "published")
    for variant in found.plan.study.variants:
        of = [variant.heads[head] for head in heads]
        for name, cells in found.table[variant.name].items():
            gap = cells.difference or ("", "", "")
            values = (cells.mean, cells.spread, *gap, cells.published)
            yield (found.plan.name, *of, name, len(cells.of_seed), *("" if each is None else each for each in values))


def _seed_rows(found: Found) -> Iterator[Sequence[Any]]:
    heads = headings(found.plan.study)
    keys = {(cell.variant.name, cell.seed): cell.training.key for cell in found.plan.cells}
    yield ("study", *heads, "seed", "run", "score", "value")
    for variant in found.plan.study.variants:
        of = [variant.heads[head] for head in heads]
        for name, cells in found.table[variant.name].items():
            for seed, value in sorted(cells.of_seed.items()):
                yield (found.plan.name, *of, seed, keys[variant.name, seed], name, value)


def _csv(rows: Iterator[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
