"""Trackers: where metrics go next to metrics.jsonl, each an optional package behind one small interface.

    config.log.to = ("wandb", "mlflow")

They take what their own environment variables say: WANDB_MODE=offline, WANDB_PROJECT, MLFLOW_TRACKING_URI,
MLFLOW_EXPERIMENT_NAME, TRACKIO_DIR, and so on. A run that continues is the same run there; the steps that a killed run
repeats come twice. A tracker that fails is left out from then on, with a note: metrics.jsonl has all.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from etils import epath
from ml_collections import ConfigDict

from eval.reading import parse_json
from eval.whole import write_text
from lrsclip_jax.config.checks import leaves
from lrsclip_jax.errors import InputError, MissingPackage, optional

PROJECT = "lrsclip"
IDS = "trackers.json"  # the names of the run there, by tracker; in the run's folder


class Tracker(Protocol):
    """What takes the metrics of a run."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds the values of a step."""

    def close(self) -> None:
        """Ends the run there, once all is sent."""


def wanted(log: ConfigDict) -> tuple[str, ...]:
    """Returns the trackers of `config.log`: those of `to`, and TensorBoard's files unless `tensorboard` is False."""
    return tuple(dict.fromkeys([*(["tensorboard"] if log.tensorboard else []), *log.to]))


def check(log: ConfigDict) -> None:
    """Raises MissingPackage where a tracker of `config.log` is not installed, before anything is done."""
    for name in wanted(log):
        if name != "tensorboard":  # which is a base package
            found = importlib.util.find_spec(name)
            if found is None or found.origin is None:  # a folder of that name, as wandb makes one, is no package
                raise MissingPackage(f"log.to: {name} is missing, pip install 'lrsclip_jax[{name}]'")


def opened(config: ConfigDict, run: epath.Path, done: int) -> list[Tracker]:
    """Returns the trackers of a run that begins or continues after step `done`; for one process of it.

    Raises InputError where one can't begin.
    """
    return [
        _tensorboard(run, done) if name == "tensorboard" else _Kept(name, config, run) for name in wanted(config.log)
    ]


def _tensorboard(run: epath.Path, done: int) -> Tracker:
    from lrsclip_jax.run.tensorboard import EventFile  # costs a second, and only process 0 of a run needs it

    return EventFile(run / "tensorboard", done + 1)


class _Kept:
    """A tracker of another package, whose failures do not end the run."""

    def __init__(self, name: str, config: ConfigDict, run: epath.Path):
        self._name = name
        try:
            self._tracker: Tracker | None = _OPENED[name](config, run)
        except InputError:
            raise
        except Exception as error:  # of any kind: no network, no login
            raise InputError(f"log.to: {name} can't begin: {_line(error)}") from error

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds the values of a step, unless the tracker has failed."""
        self._try(lambda tracker: tracker.write(step, values))

    def close(self) -> None:
        """Ends the run there, unless the tracker has failed."""
        self._try(lambda tracker: tracker.close())

    def _try(self, what: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            what(self._tracker)
        except Exception as error:
            self._tracker = None
            print(f"note: {self._name} is left out from here on: {_line(error)}", file=sys.stderr)


def _line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


def _id(run: epath.Path, name: str, new: Callable[[], str]) -> tuple[str, bool]:
    """Returns the id of a run with a tracker, kept in the run's folder, and whether it is a new one."""
    file = run / IDS
    known: dict[str, str] = parse_json(file.read_bytes(), str(file), dict[str, str]) if file.exists() else {}
    if name in known:
        return known[name], False
    known[name] = new()
    write_text(file, json.dumps(known, indent=1) + "\n")
    return known[name], True


def _folder(run: epath.Path) -> Path | None:
    """Returns a run's folder for files that a package writes itself; None on an object store."""
    return None if "://" in os.fspath(run) else Path(run)


class _Wandb:
    def __init__(self, config: ConfigDict, run: epath.Path):
        wandb = optional("wandb", "wandb")
        name, _ = _id(run, "wandb", lambda: secrets.token_hex(6))
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.name,
            id=name,
            resume="allow",
            dir=_folder(run),
            config=config.to_dict(),
            settings=wandb.Settings(console="off", quiet=True),
        )
        # Its own count of steps only rises; a run that continues goes back to its checkpoint.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **values})

    def close(self) -> None:
        self._run.finish()


class _Mlflow:
    def __init__(self, config: ConfigDict, run: epath.Path):
        mlflow, folder = optional("mlflow", "mlflow"), _folder(run)
        place = os.environ.get("MLFLOW_TRACKING_URI") or (folder and f"sqlite:///{folder}/mlflow.db")
        self._client, self._metric = mlflow.MlflowClient(place), mlflow.entities.Metric
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)

        def begin() -> str:
            known = self._client.get_experiment_by_name(experiment)
            number = known.experiment_id if known else self._client.create_experiment(experiment)
            return self._client.create_run(number, run_name=run.name).info.run_id

        self._id, new = _id(run, "mlflow", begin)
        if not new:
            self._client.update_run(self._id, status="RUNNING")
            return
        for key, value in leaves(config):  # which do not change there; config.json has those of today
            self._client.log_param(self._id, key, str(value)[:500])

    def write(self, step: int, values: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        metrics = [
            self._metric(re.sub(r"[^\w\-. :/]", "_", name), float(value), now, step) for name, value in values.items()
        ]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self) -> None:
        self._client.set_terminated(self._id)


class _Trackio:
    def __init__(self, config: ConfigDict, run: epath.Path):
        trackio = optional("trackio", "trackio")
        name, _ = _id(run, "trackio", lambda: f"{run.name}-{secrets.token_hex(3)}")
        self._run = trackio.init(project=PROJECT, name=name, resume="allow", config=config.to_dict(), embed=False)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


_OPENED: dict[str, Callable[[ConfigDict, epath.Path], Any]] = {
    "wandb": _Wandb,
    "mlflow": _Mlflow,
    "trackio": _Trackio,
}
