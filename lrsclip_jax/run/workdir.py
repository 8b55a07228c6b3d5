"""The run's folder: claimed by one config, continued only under a config of the same curve."""

from __future__ import annotations

from typing import Any

from etils import epath

from eval.reading import parse_json
from eval.whole import write_text
from lrsclip_jax import config as configs
from lrsclip_jax.errors import InputError

CONFIG = "config.json"
CHECKPOINTS = "checkpoints"


def folder_of(name: str) -> epath.Path:
    """Returns the path of a run folder; a local path becomes absolute, as Orbax needs it."""
    return epath.Path(name) if "://" in name else epath.Path(name).expanduser().resolve()


def claim(workdir: str, config: configs.ConfigDict) -> epath.Path:
    """Makes `workdir` the folder of this run, new or continued, and writes config.json into it.

    Raises InputError if the folder can't be written, or holds checkpoints of a run whose curve-determining keys
    differ. A run that saved nothing yet starts again from its first step.
    """
    folder = folder_of(workdir)
    saved = read_config(folder)
    if saved is not None and steps(folder):
        differences = configs.curve_differences(saved, config)
        if differences:
            raise InputError(
                f"{folder} holds a run of another config ({'; '.join(differences)}): give another --workdir, "
                "or continue from its newest checkpoint in a new folder with --branch=NEWDIR"
            )
    write_config(folder, config)
    return folder


def new(workdir: str) -> epath.Path:
    """Returns the path of a new run folder; InputError if anything is there already."""
    folder = folder_of(workdir)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        unfinished = not steps(folder) and (folder / CHECKPOINTS).exists()
        what = "an unfinished checkpoint" if unfinished else "something already"
        raise InputError(f"{folder} holds {what}, and nothing is overwritten: remove it, or give another folder")
    return folder


def branch(workdir: str, new: str, config: configs.ConfigDict) -> epath.Path:
    """Starts folder `new` with the newest checkpoint and the metrics of `workdir`, under another config.

    A branch that exists already is continued like any run.
    """
    source, target = folder_of(workdir), folder_of(new)
    if read_config(target) is not None:
        return claim(new, config)
    if not (saved := steps(source)):
        raise InputError(f"{source} has no checkpoint to branch from")
    try:
        _copy(source / CHECKPOINTS / str(saved[-1]), target / CHECKPOINTS / str(saved[-1]))
        if (source / "metrics.jsonl").exists():
            (source / "metrics.jsonl").copy(target / "metrics.jsonl", overwrite=True)
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
    """Returns the config that a run folder was claimed with, or None for a folder without a run."""
    path = folder / CONFIG
    try:
        return parse_json(path.read_bytes(), str(path), dict[str, Any]) if path.exists() else None
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror or error}") from None
    except InputError as error:
        raise InputError(f"{error}: restore it, or start in another --workdir") from None


def write_config(folder: epath.Path, config: configs.ConfigDict) -> None:
    """Writes config.json into a run folder, and makes the folder where there is none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"can't write to --workdir={folder}: {error.strerror or error}") from error
    write_text(folder / CONFIG, configs.to_json(config))


def _copy(source: epath.Path, target: epath.Path) -> None:
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        for child in source.iterdir():
            _copy(child, target / child.name)
    else:
        source.copy(target, overwrite=True)
