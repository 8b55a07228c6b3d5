"""Runs the tasks that the found sets allow: in parallel, each result written as soon as it is there, none twice."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import msgspec
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm import tqdm

from eval.embeddings import META, EmbeddingSet, check_set, open_set
from eval.errors import InputError
from eval.interrupts import born_deaf
from eval.leaks import Leaks, leaks_of, read_leaks
from eval.papers.studies import study_of
from eval.results import made_by, write_result
from eval.suite import result_files
from eval.suite.identity import benchmark, note_on
from eval.suite.result_files import prepare_split
from eval.suite.tasks import CLEANED, ITRA, PROBES, EvalTask, MeasureSettings, evaluated_images, measure, tasks_of

PAIRS = 20  # that a result names


class MeasureJob(NamedTuple):
    """A task of one set, where its result lies, what the result depends on, and the leaks of a set to be cleaned."""

    set: Path
    task: EvalTask
    result: Path
    fingerprint: str
    leaks: Path | None = None

    def __str__(self) -> str:
        return f"{self.task} of {self.set}"


@dataclass
class SuiteOutcome:
    """The outcome of a run: results in order, a line for each failure, remarks, and how many results were reused.

    `defects` are tracebacks of failures that no input should cause.
    """

    results: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)
    reused: int = 0


class _Done(NamedTuple):
    job: MeasureJob
    result: dict[str, Any] | None = None
    failure: str = ""
    defect: str = ""
    said: str = ""


def run(
    paths: Sequence[Path],
    out: Path,
    only: Sequence[str] = (),
    seed: int = 0,
    processes: int = 1,
    itra: bool = False,
    leaks: Mapping[Path, Leaks] | None = None,
) -> SuiteOutcome:
    """Measures what the sets allow and `out` does not hold yet, and returns all results.

    Args:
      paths: folders of embedding sets.
      out: where results and splits go.
      only: names of the tasks to measure, none for all; results of others that are there and hold are returned too.
      seed: of the splits and draws of the probes, and of the random parts that cleaned sets are compared with.
      processes: how many tasks are measured at a time.
      itra: measure the probes by ITRA's protocol, too.
      leaks: from `eval.leaks.read_leaks`: their sets are measured once more without images near training images.

    Raises:
      InputError: a process was killed.
    """
    outcome = SuiteOutcome()
    jobs = _planned(paths, out, seed, leaks or {}, outcome)
    results = {job: result_files.read_result(job.result, job.fingerprint) for job in jobs}
    todo = [job for job in jobs if results[job] is None and (not only or job.task.name in only)]
    todo = [job for job in todo if itra or job.task.variant != ITRA]
    outcome.reused = sum(result is not None for result in results.values())
    processes = max(1, min(processes, len(todo)))
    settings = MeasureSettings(out / "splits", seed, max(1, (os.cpu_count() or 1) // processes))
    todo = _with_splits(_undamaged(todo, outcome), settings, outcome)
    for done in tqdm(
        _measured(todo, settings, processes), "measuring", len(todo), unit="task", leave=False, disable=None
    ):
        results[done.job] = done.result
        outcome.failures += [f"{done.job}: {done.failure}"] if done.failure else []
        outcome.defects += [done.defect] if done.defect else []
        outcome.remarks += [f"{done.job}: {line}" for line in dict.fromkeys(done.said.splitlines())]
    # A set may have moved since a kept result was made.
    outcome.results = [result | {"set": str(job.set)} for job, result in results.items() if result]
    warned = ((job, result["warning"]) for job, result in results.items() if result and "warning" in result)
    outcome.remarks += [f"{job}: {warning}" for job, warning in warned]
    return outcome


def _planned(
    paths: Iterable[Path], out: Path, seed: int, leaks: Mapping[Path, Leaks], outcome: SuiteOutcome
) -> list[MeasureJob]:
    jobs: dict[Path, tuple[MeasureJob, EmbeddingSet]] = {}
    used: set[Path] = set()
    for path in paths:
        try:
            embedding_set = open_set(path)
            study_of(embedding_set.meta, f"{path}/{META}")
            note, tasks = note_on(embedding_set), tasks_of(embedding_set)
        except InputError as error:
            outcome.failures.append(str(error))
            continue
        outcome.remarks += [note] if note else []
        if not tasks:
            outcome.remarks.append(f"{path}: nothing to measure in it")
        of_set = _leaks_of(embedding_set, leaks, used, outcome) if leaks and embedding_set.image_rows else None
        for task in tasks:
            cleaned = of_set if task.name in CLEANED else None
            drawn = seed if cleaned or _is_drawn(task) else None
            result = result_files.result_path(out, embedding_set, str(task))
            job = MeasureJob(
                path, task, result, result_files.fingerprint(path, str(task), drawn, cleaned), leaks=cleaned
            )
            first, other = jobs.setdefault(job.result, (job, embedding_set))
            if first is job:
                continue
            if any(other.meta.get(key) != embedding_set.meta.get(key) for key in ("checkpoint", "step")):
                outcome.failures.append(
                    f"{job}: {first.set} is of another checkpoint under the same name, {embedding_set.model!r}: "
                    "give each checkpoint its own `model` in meta.json"
                )
            else:
                outcome.remarks.append(f"{job}: left out, {first.set} is of the same model, data set and features")
    if leaks and not used:
        path, found = next(iter(leaks.items()))
        outcome.failures.append(f"{path} is of {found.source}: no set has its {len(found.images):,} images")
    return [job for job, _ in jobs.values()]


def _leaks_of(
    embedding_set: EmbeddingSet, leaks: Mapping[Path, Leaks], used: set[Path], outcome: SuiteOutcome
) -> Path | None:
    """The leaks by which a set is to be cleaned, which join the used ones; a line in the outcome where it is not."""
    ids = [embedding_set.image_rows[row]["id"] for row in evaluated_images(embedding_set)]
    split = embedding_set.split if len(ids) == len(embedding_set.image_rows) else "test"
    try:
        found = leaks_of(leaks, embedding_set.dataset, split, ids, str(embedding_set.path))
        if found is None:
            outcome.remarks.append(f"{embedding_set.path}: no leaks are of its images, it is measured as it is")
            return None
        used.add(found)
        near = {pair.id for pair in leaks[found].near}.intersection(ids)
        if len(near) == len(ids):
            raise InputError(f"{embedding_set.path}: no image is left, all {len(ids):,} are near training images")
        if not near:
            outcome.remarks.append(f"{embedding_set.path}: no image is near a training image, cleaned equals whole")
        return found
    except InputError as error:
        used.update(leaks)  # one line is enough
        outcome.failures.append(str(error))
        return None


def _with_splits(jobs: Sequence[MeasureJob], settings: MeasureSettings, outcome: SuiteOutcome) -> list[MeasureJob]:
    """The jobs that can continue. Splits are written to files before any process needs them."""
    wrong: dict[Path, str] = {}
    for path in dict.fromkeys(job.set for job in jobs if _is_drawn(job.task)):
        try:
            prepare_split(open_set(path), settings.splits, settings.seed)
        except InputError as error:
            wrong[path] = str(error)
    stopped = [job for job in jobs if _is_drawn(job.task) and job.set in wrong]
    outcome.failures += [f"{job}: {wrong[job.set]}" for job in stopped]
    return [job for job in jobs if job not in stopped]


def _undamaged(jobs: Sequence[MeasureJob], outcome: SuiteOutcome) -> list[MeasureJob]:
    """The jobs whose sets are what was written: read once, before any is measured."""
    damaged: set[Path] = set()
    for path in tqdm({job.set: None for job in jobs}, "checking", unit="set", leave=False, disable=None, delay=1):
        try:
            check_set(path)
        except InputError as error:
            outcome.failures.append(str(error))
            damaged.add(path)
    return [job for job in jobs if job.set not in damaged]


def _is_drawn(task: EvalTask) -> bool:
    """Whether a task depends on the seed."""
    return task.name in PROBES and task.variant != ITRA


def _measured(jobs: Sequence[MeasureJob], settings: MeasureSettings, processes: int) -> Iterator[_Done]:
    if processes == 1:
        yield from (_attempt(job, settings) for job in jobs)
        return
    try:
        with joblib.parallel_config("loky", n_jobs=processes, inner_max_num_threads=settings.threads):
            pool = joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs")
            parent = os.getpid()
            with born_deaf(signal.SIGINT):  # the call starts the processes
                measured = pool(joblib.delayed(_attempt_apart)(job, settings, parent) for job in jobs)
            yield from measured
    except TerminatedWorkerError as error:
        raise InputError(
            "a process was killed, perhaps for lack of memory: start again with --processes=1; "
            "the results that were finished are kept"
        ) from error


def _attempt_apart(job: MeasureJob, settings: MeasureSettings, parent: int) -> _Done:
    _end_with(parent)
    # The bars of several processes would tear the one terminal that they share.
    with contextlib.redirect_stderr(io.StringIO()) as said:
        done = _attempt(job, settings)
    return done._replace(said=said.getvalue())


@functools.cache
def _end_with(parent: int) -> None:
    """Lets this process end with its parent, even when that is killed, and not at the end of its task."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _attempt(job: MeasureJob, settings: MeasureSettings) -> _Done:
    try:
        return _Done(job, _result(job, settings))
    except InputError as error:
        return _Done(job, failure=str(error))
    except Exception as error:  # the other tasks are worth finishing; the traceback is shown at the end
        return _Done(job, failure=f"{type(error).__name__}: {error}", defect=traceback.format_exc())


def _result(job: MeasureJob, settings: MeasureSettings) -> dict[str, Any]:
    embedding_set = open_set(job.set)
    head = {
        "task": job.task.name,
        "model": embedding_set.model,
        "dataset": embedding_set.dataset,
        "split": embedding_set.split,
        "features": embedding_set.features,
        "benchmark": benchmark(embedding_set, job.task.name),
        **({"study": embedding_set.meta["study"]} if "study" in embedding_set.meta else {}),
    }
    foot = {"set": str(job.set), "made_by": made_by(), "fingerprint": job.fingerprint}
    if job.leaks:
        leaks = read_leaks(job.leaks)[job.leaks]
        measured = measure(job.task, embedding_set, settings, {pair.id for pair in leaks.near})
        measured["cleaned"] |= _of_leaks(leaks, embedding_set)
    else:
        measured = measure(job.task, embedding_set, settings)
    result = {**head, **measured, **foot}
    write_result(job.result, result)
    return result


def _of_leaks(leaks: Leaks, embedding_set: EmbeddingSet) -> dict[str, Any]:
    """What a result tells of the images that it leaves out: the nearest of the pairs, and how they were found."""
    ids = {embedding_set.image_rows[row]["id"] for row in evaluated_images(embedding_set)}
    pairs = sorted((pair for pair in leaks.near if pair.id in ids), key=lambda pair: pair.distance)
    return {
        "near": msgspec.to_builtins(pairs[:PAIRS]),
        "distance": leaks.distance,
        "train": msgspec.to_builtins(leaks.train),
    }
