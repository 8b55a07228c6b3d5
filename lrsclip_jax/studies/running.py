"""Trains and measures what is missing of a study, each step in a process of its own, which returns its memory."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict

from eval.embeddings import META, check_set
from eval.errors import InputError
from eval.lock import Busy, alone
from eval.paired import Units
from eval.seals import read_sealed, seal
from eval.whole import write_text
from lrsclip_jax.studies import scoring
from lrsclip_jax.studies.study import Measured
from lrsclip_jax.studies.trainings import Cell, PlannedStudy, Training, embed_command, set_name

COMMAND = "lrsclip study"
_POLL = 2.0  # seconds between looks at a folder in which another process is at work
_GRACE = {signal.SIGINT: 3.0, signal.SIGTERM: 60.0}  # seconds that a process has to end


class Account(TypedDict):
    """What the last start of a finished training took: `trained.json`. Several starts are one of a killed study."""

    seconds: float
    pairs: int


class Failed(InputError):
    """A step of a study that failed; the others may be worth finishing."""


def run(plan: PlannedStudy, workdir: Path, cells: Sequence[Cell]) -> list[str]:
    """Trains and measures the cells that are not finished, and returns a line for each that failed.

    A training that failed is not tried again for another cell.
    """
    failed: dict[str, str] = {}  # trainings by their keys
    failures = []
    for number, cell in enumerate(cells, 1):
        training = cell.training
        if missing(plan, training, workdir) or not is_trained(training, workdir):
            _say(f"[{number}/{len(cells)}] {cell}: {training.folder(workdir)}")
        try:
            for each in filter(None, (training.start, training)):
                _finish(each, workdir, failed)
            with free(training.folder(workdir)):
                for measured in plan.measured:
                    _measure(training, measured, workdir)
        except Failed as error:
            failures.append(f"{cell}: {error}")
            _say(f"failed: {failures[-1]}")
    return failures


def is_trained(training: Training, workdir: Path) -> bool:
    """Whether a training is finished."""
    return account(training, workdir) is not None


def account(training: Training, workdir: Path) -> Account | None:
    """Returns what a finished training took; None where it is not finished, or where the file is torn."""
    with contextlib.suppress(InputError):
        return read_sealed(training.folder(workdir) / "trained.json", Account)
    return None


def missing(plan: PlannedStudy, training: Training, workdir: Path) -> list[Measured]:
    """Returns the sets on which a training is not measured yet."""
    return [measured for measured in plan.measured if not scores_path(training, measured, workdir).exists()]


def scores_path(training: Training, measured: Measured, workdir: Path) -> Path:
    """Returns the file of a training's scores on a set."""
    return training.folder(workdir) / "scores" / f"{set_name(measured)}.npz"


def units(training: Training, measured: Measured, workdir: Path) -> dict[str, Units] | None:
    """Returns the units of a training on a set; None where it is not measured, or where the file is torn."""
    try:
        return scoring.read_units(scores_path(training, measured, workdir))
    except InputError:
        return None


def _finish(training: Training, workdir: Path, failed: dict[str, str]) -> None:
    if training.key in failed:
        raise Failed(failed[training.key])
    try:
        with free(training.folder(workdir)):
            _train(training, workdir)
    except Failed as error:
        failed[training.key] = str(error)
        raise


def _train(training: Training, workdir: Path) -> None:
    if is_trained(training, workdir):
        return
    with free(training.run(workdir)):  # a child of a killed study may still be at work there
        pass
    begun, done = time.monotonic(), _last_step(training.run(workdir))
    log = training.folder(workdir) / "train.log"
    command = training.command(workdir)
    if training.config.checkpoint.best is None:
        command.append("--config.eval.sources=()")  # it is measured afterwards, as an embedding set
    call(command, log)
    pairs = (_last_step(training.run(workdir)) - done) * training.config.batch_size
    taken: Account = {"seconds": round(time.monotonic() - begun, 1), "pairs": pairs}
    write_text(training.folder(workdir) / "trained.json", seal(json.dumps(taken)) + "\n")


def _measure(training: Training, measured: Measured, workdir: Path) -> None:
    path = scores_path(training, measured, workdir)
    if path.exists():
        try:
            scoring.read_units(path)
            return
        except InputError as error:
            _say(f"note: {error}: measured again")
    embedding_set = training.folder(workdir) / "sets" / set_name(measured)
    with free(embedding_set):
        if (embedding_set / META).exists() and _damage(embedding_set):
            shutil.rmtree(embedding_set)
    if not (embedding_set / META).exists():
        call(embed_command(training, measured, workdir), training.folder(workdir) / "embed.log")
    try:
        found = scoring.units_of_set(embedding_set)
    except InputError as error:
        raise Failed(str(error)) from None
    if absent := [name for name in measured.scores if name not in found]:
        raise Failed(f"{measured.source} does not allow {absent[0]}, which the study says it gives")
    scoring.write_units(path, found)


def _damage(embedding_set: Path) -> bool:
    try:
        check_set(embedding_set)
    except InputError as error:
        _say(f"note: {error}: embedded again")
        return True
    return False


def call(command: Sequence[str], log: Path) -> None:
    """Runs a command with its output in a log, which ends with this process; Failed tells its last line."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
        try:
            status = process.wait()
        except BaseException as end:
            _stop(process, signal.SIGTERM if isinstance(end, SystemExit) else signal.SIGINT)
            raise
    if status:
        raise Failed(f"{_last_line(log, status)} ({log})")


def _stop(process: subprocess.Popen, how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(how)
    try:
        process.wait(_GRACE[how])
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_line(log: Path, status: int) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    ended = f"ended by signal {-status}" if status < 0 else f"ended with status {status}"
    return errors[-1] if errors else f"{ended}: {lines[-1]:.200}" if lines else ended


def _last_step(run: Path) -> int:
    steps = [int(path.name) for path in (run / "checkpoints").glob("*") if re.fullmatch("[0-9]+", path.name)]
    return max(steps, default=0)


@contextlib.contextmanager
def free(folder: Path) -> Iterator[None]:
    """A context in which no other command works in a folder; it waits until that is so."""
    told = False
    while True:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(alone(folder, COMMAND))
            except Busy as error:
                if not told:
                    _say(f"waiting: {error}")
                told = True
                time.sleep(_POLL)
                continue
            yield
            return


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def end_at_sigterm() -> None:
    """Lets SIGTERM end this process by an exception, so that it ends its child, which saves."""

    def raised(*_: Any) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, raised)
