"""The folder of a study in its workdir: it belongs to one base recipe and to the sets that are measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from eval.output import check_folder
from eval.seals import read_sealed, seal
from eval.whole import write_text
from lrsclip_jax import config as configs
from lrsclip_jax.errors import InputError
from lrsclip_jax.studies.trainings import RUNS, PlannedStudy, set_name

STUDY = "study.json"


class _Kept(msgspec.Struct):
    """What a study's folder is of."""

    study: str
    table: str
    config: dict[str, Any]
    measured: list[str]


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
