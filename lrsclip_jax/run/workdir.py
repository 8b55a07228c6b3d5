"""The run's folder: claimed by one config, continued only under a config of the same curve."""

from __future__ import annotations

import importlib.util
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from etils import epath

from eval.file_names import named, spelled
from eval.lock import alone
from eval.output import check_place, first_file
from eval.reading import parse_json
from eval.whole import write_bytes, write_text
from lrsclip_jax import config as configs
from lrsclip_jax.errors import InputError

CONFIG, METRICS, TOKENIZER = "config.json", "metrics.jsonl", "tokenizer.json"
_KEYS = {"seed", "model", "data"}  # of every config
CHECKPOINTS = "checkpoints"


def folder_of(name: str) -> epath.Path:
    """Returns the path of a run folder; a local path becomes absolute, as Orbax needs it.

    Raises:
      InputError: an address that is not gs://…, or one without the package that reads it.
    """
    if "://" not in name:
        return epath.Path(named(name)).expanduser().resolve()
    if not name.startswith("gs://"):
        raise InputError(f"{name}: expected a local or mounted folder, or gs://…")
    if importlib.util.find_spec("gcsfs") is None:
        raise InputError(f"{name}: a package is missing, pip install 'lrsclip_jax[gcs]'")
    return epath.Path(name)


def check_out(name: str, option: str = "--workdir") -> None:
    """Raises InputError where a run can't begin or continue in a folder: it can't be made, or holds something else."""
    if name.startswith("gs://"):
        folder_of(name)
        return  # every look there is a request: `claim` looks
    _check_place(name, option)
    check_run(folder_of(name), option)


def _check_place(name: str, option: str = "--workdir") -> None:
    check_place(name, option)
    path = str(folder_of(name))
    if path != spelled(path):  # TensorStore, which writes the arrays, takes no other
        raise InputError(f"{option}={spelled(path)}: a run folder needs a path in UTF-8: rename the folder")


def check_run(folder: epath.Path, option: str = "--workdir") -> None:
    """Raises InputError unless a folder is new, empty, or a run's."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{option}={folder} is a file, a folder is expected")
    if (other := first_file(folder)) and read_config(folder) is None and not steps(folder):
        raise InputError(f"{folder} holds other files ({other}) and no run: give another {option}, new or empty")


@contextmanager
def at_work(name: str, command: str) -> Iterator[None]:
    """A context in which one command works in a run folder, see `eval.lock.alone`; for process 0 alone."""
    folder = folder_of(name)
    with alone(folder if "://" in os.fspath(folder) else Path(folder), command):
        yield


def claim(workdir: str, config: configs.ConfigDict, samples: int = 0) -> epath.Path:
    """Makes `workdir` the folder of this run, new or continued, and writes config.json into it.

    `samples` are those of an epoch: with them a finished run may continue for more epochs, see `finished_shorter`.

    Raises InputError if the folder can't be written, or holds something else, such as checkpoints of a run whose
    curve-determining keys differ. A run that saved nothing yet starts again from its first step.
    """
    folder = folder_of(workdir)
    check_run(folder)
    saved = read_config(folder)
    if saved is not None and steps(folder):
        differences = configs.curve_differences(saved, config)
        if differences and finished_shorter(folder, config, samples) is None:
            raise InputError(
                f"{folder} holds a run of another config ({'; '.join(differences)}): give another --workdir, "
                "or continue from its newest checkpoint in a new folder with --branch=NEWDIR"
            )
    write_config(folder, config)
    return folder


def finished_shorter(folder: epath.Path, config: configs.ConfigDict, samples: int) -> int | None:
    """Returns the steps of the finished run in a folder, if a config differs from its own in more epochs alone.

    None for every other folder. The learning rate and all that follows the share of the run that is done depend on the
    epochs: the run was another one than the first part of the longer run is, unless nothing changes over the run.
    """
    saved = read_config(folder)
    if not samples or saved is None or not saved.get("epochs", config.epochs) < config.epochs:
        return None
    before = config.copy_and_resolve_references()
    with before.ignore_type():
        before.epochs = saved["epochs"]
    steps_before = math.floor(before.epochs * samples / before.batch_size)
    finished = bool(steps_before) and steps(folder)[-1:] == [steps_before]
    return steps_before if finished and not configs.curve_differences(saved, before) else None


def check_new(workdir: str) -> epath.Path:
    """Returns the path of a new run folder, which may hold what a killed import has left; InputError for others."""
    if not workdir.startswith("gs://"):
        _check_place(workdir)
    folder = folder_of(workdir)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--workdir={folder} is a file, a folder is expected")
    if first_file(folder, [CHECKPOINTS, TOKENIZER]) or not _is_import(folder / CHECKPOINTS):
        raise InputError(
            f"{folder} holds something already, and nothing is overwritten: remove it, or give another folder"
        )
    return folder


def new(workdir: str) -> epath.Path:
    """Returns the path of a new run folder, without what a killed import has left; InputError as of `check_new`."""
    folder = check_new(workdir)
    try:
        if (folder / CHECKPOINTS).exists():
            (folder / CHECKPOINTS).rmtree()
    except OSError as error:
        raise InputError(f"can't write to --workdir={folder}: {error.strerror or error}") from error
    return folder


def _is_import(checkpoints: epath.Path) -> bool:
    """Whether there is nothing but checkpoint 0 without an optimizer, finished or not: config.json comes last."""
    if not checkpoints.exists():
        return True
    return all(re.match(r"0(\.|$)", path.name) and not (path / "optimizer").exists() for path in checkpoints.iterdir())


def branch(workdir: str, new: str, config: configs.ConfigDict, samples: int = 0) -> epath.Path:
    """Starts folder `new` with the newest checkpoint and the metrics of `workdir`, under another config.

    A branch that exists already is continued like any run, with `samples` as for `claim`.
    """
    source, target = folder_of(workdir), folder_of(new)
    if read_config(target) is not None:
        return claim(new, config, samples)
    if first_file(target, [CHECKPOINTS, METRICS]) or (first_file(target) and not (target / CHECKPOINTS).exists()):
        raise InputError(f"{target} holds other files ({first_file(target)}): give another --branch, new or empty")
    if not (saved := steps(source)):
        raise InputError(f"{source} has no checkpoint to branch from")
    try:
        _copy(source / CHECKPOINTS / str(saved[-1]), target / CHECKPOINTS / str(saved[-1]))
        if (source / METRICS).exists():
            (source / METRICS).copy(target / METRICS, overwrite=True)
    except OSError as error:
        raise InputError(f"can't branch into {target}: {error.strerror or error}") from error
    write_config(target, config)
    return target


def steps(folder: epath.Path) -> list[int]:
    """Returns the steps of a run folder's complete checkpoints, in order."""
    named = [path for path in (folder / CHECKPOINTS).glob("*") if path.name.isascii() and path.name.isdigit()]
    if "://" in str(folder):  # an object store can't rename a complete folder, so Orbax adds a file to it
        named = [path for path in named if (path / "commit_success.txt").exists()]
    return sorted(int(path.name) for path in named)


def read_config(folder: epath.Path) -> dict | None:
    """Returns the config that a run folder was claimed with, or None for a folder without a run.

    Raises InputError where its config.json can't be read, or is something else's.
    """
    path = folder / CONFIG
    if not path.exists():
        return None
    try:
        config: dict[str, Any] = parse_json(path.read_bytes(), str(path), dict[str, Any])
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror or error}") from error
    except InputError as error:
        raise InputError(f"{error}: restore it, or start in another --workdir") from None
    if not config.keys() >= _KEYS:
        raise InputError(f"{path} is no run's: give another --workdir, new or empty")
    return config


def write_config(folder: epath.Path, config: configs.ConfigDict) -> None:
    """Writes config.json into a run folder, and makes the folder where there is none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"can't write to --workdir={folder}: {error.strerror or error}") from error
    write_text(folder / CONFIG, configs.to_json(config))


def write_tokenizer(folder: epath.Path, data: bytes) -> None:
    """Writes the tokenizer.json of a run into its folder, unless it is there already; without data there is none."""
    path = folder / TOKENIZER
    try:
        if data and not (path.exists() and path.read_bytes() == data):
            folder.mkdir(parents=True, exist_ok=True)
            write_bytes(path, data)
    except OSError as error:
        raise InputError(f"can't write {path}: {error.strerror or error}") from error


def _copy(source: epath.Path, target: epath.Path) -> None:
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        for child in source.iterdir():
            _copy(child, target / child.name)
    else:
        source.copy(target, overwrite=True)
