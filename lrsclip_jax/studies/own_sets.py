"""The embedding sets of a study: those of its trainings, each with the row of the study that it is."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.embeddings import META, finish_set, open_set
from eval.errors import InputError
from eval.suite.result_files import safe_name
from eval.whole import beginning, discard, finish
from lrsclip_jax.studies.trainings import Cell, PlannedStudy, set_name

SETS = "sets"


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
            meta = {**open_set(source).meta, "model": str(cell), "study": row_of(plan, cell)}
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
