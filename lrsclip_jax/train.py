"""The training program, read from top to bottom: set-up, folder, data, state, loop, report."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
import time
from typing import Any, NamedTuple

import jax
from etils import epath
from ml_collections import ConfigDict
from orbax.checkpoint import v1 as ocp

from lrsclip_jax import heldout
from lrsclip_jax.config import checks
from lrsclip_jax.data.batches import mixture, pipeline, text_kinds
from lrsclip_jax.encoders import encoders
from lrsclip_jax.errors import Terminated
from lrsclip_jax.hosts import distributed
from lrsclip_jax.optimizer import learning_rate_schedule
from lrsclip_jax.run import (
    checkpoint,
    checkpoint_reader,
    preemption,
    profile,
    report,
    saved_features,
    startup,
    throughput,
    trackers,
    workdir,
)
from lrsclip_jax.run.compiled import CompiledSteps
from lrsclip_jax.run.evaluator import Evaluator, Score
from lrsclip_jax.run.forgetting import Forgetting
from lrsclip_jax.run.loop import Owners, run_steps
from lrsclip_jax.run.metrics import MetricWriter
from lrsclip_jax.run.nonfinite import Guard
from lrsclip_jax.run.progress import Progress
from lrsclip_jax.run.recorder import Recorder
from lrsclip_jax.run.saver import Saver
from lrsclip_jax.run.training_data import Sources, TrainingData, batches_on_devices
from lrsclip_jax.run.watchdog import Watchdog
from lrsclip_jax.setup import Setup, run_length, set_up
from lrsclip_jax.step import TrainState, initial_state, placed
from lrsclip_jax.weights import initial_parameters, initial_tokenizer, teacher_parameters


class Run(NamedTuple):
    """A run about to begin or to continue: its folder, its data, how it is scored, and its checkpoints."""

    folder: epath.Path
    data: TrainingData
    score: Score
    checkpoints: ocp.training.Checkpointer
    about: dict[str, Any]  # what every checkpoint says of the run


def train_and_evaluate(
    config: ConfigDict, folder: str, branch: str | None = None, laps: startup.Laps | None = None
) -> dict[str, float]:
    """Trains as `config` says in `folder`, continuing from its newest checkpoint; evaluates and writes the report.

    The processes of a run (lrsclip_jax.hosts.distributed) all call it with the same arguments. The folder is local or
    gs://…; `branch` is another one, in which to continue from the newest checkpoint of `folder`. `laps` say where the
    time of the start went so far.

    Returns the final scores, named "eval/SET/long/text_to_image/R@1" and so on. Raises InputError for everything that
    a user can mend, and Terminated after SIGTERM or Ctrl-C, once the state is saved.
    """
    begun = time.perf_counter()
    laps = laps or startup.Laps(begun)
    checks.check(config)
    startup.cache_compiled_programs(config.train.compilation_cache)

    # Set-up: everything that follows from the config and the length of the data
    sources = mixture.open_sources(config)
    config, notes = text_kinds.for_sources(config, sources)
    if jax.process_index() == 0:
        for note in notes:
            print(note, file=sys.stderr)
    samples = sum(len(source) for source, _ in sources)
    setup = set_up(config, run_length(config, samples))
    laps.end("setup")

    with contextlib.ExitStack() as lock:
        # Folder
        distributed.first(lambda: lock.enter_context(workdir.at_work(branch or folder, "lrsclip train")))
        path = workdir.folder_of(branch or folder)
        shorter = distributed.from_first(lambda: workdir.finished_shorter(path, config, samples))
        distributed.first(
            lambda: (
                workdir.branch(folder, branch, config, samples) if branch else workdir.claim(folder, config, samples)
            )
        )
        if shorter and jax.process_index() == 0:
            print(_longer(setup, shorter), file=sys.stderr)
        distributed.check_shared(path)

        # Data, state, loop, report
        run, steps, first = _open(setup, sources, path, laps)
        tables = _train(setup, run, steps, first, laps)
        if jax.process_index() == 0:
            report.conclude(config, path, tables, time.perf_counter() - begun)
    return heldout.flat(tables)


def _open(setup: Setup, sources: Sources, path: epath.Path, laps: startup.Laps) -> tuple[Run, range, list[TrainState]]:
    """Returns the run in a folder, its steps that are left, and alone in a list its state: saved before, or new."""
    config = setup.config
    tokenizer = initial_tokenizer(setup.model, config)
    distributed.first(lambda: workdir.write_tokenizer(path, tokenizer.file))
    bands = setup.model.image.bands
    held_out = [heldout.load(source, tokenizer, config.eval.templates, bands) for source in config.eval.sources]
    watched = [("eval.guard", metric) for metric, _ in config.eval.guard or ()]
    for key, metric in (("checkpoint.best", config.checkpoint.best), *watched):
        heldout.check_score(key, metric, held_out, config.eval.truncations)
    laps.end("data")

    params, preprocessing = initial_parameters(setup.model, config)
    preprocessing = mixture.measured(preprocessing, config, sources)
    images = saved_features.of_images(config, setup.model, params, preprocessing, sources)
    texts = saved_features.of_texts(config, setup.model, params, sources)
    laps.end("parameters")

    towers = encoders(setup.model, preprocessing, setup.mesh)
    score = heldout.scorer(held_out, towers, tokenizer, preprocessing, setup.text_lengths, config.eval)
    about = checkpoint.metadata(config, preprocessing, tokenizer, params)
    checkpoints = checkpoint.open_checkpoints(path, config.checkpoint)
    state = checkpoint_reader.restore(checkpoints, setup.shapes, about, params)
    if state is None:
        state = initial_state(params, setup.optimizer, setup.shapes)
    if setup.shapes.teacher is not None:
        teacher = teacher_parameters(setup.model, config, params, preprocessing)
        state = dataclasses.replace(state, teacher=placed(teacher, setup.shapes.teacher))
    run = Run(path, TrainingData(sources, tokenizer, preprocessing, images, texts), score, checkpoints, about)
    steps = setup.steps_left(done=int(state.step))
    if jax.process_index() == 0:
        _introduce(setup, run, steps)
    laps.end("restore")
    return run, steps, [state]


def _train(setup: Setup, run: Run, steps: range, first: list[TrainState], laps: startup.Laps) -> list[heldout.Table]:
    """Trains for `steps` from the first state, and returns the tables of the last evaluation."""
    owners = _owners(setup, run, steps, laps)
    counts = pipeline.DataReport(setup.config.data.max_torn)
    with (
        preemption.watch() as signalled,
        owners.watchdog,
        checkpoint.closing(run.checkpoints),
        batches_on_devices(run.data, setup.config, setup.layout, setup.mesh, counts, steps) as batches,
        owners.trace,
    ):
        stopped = run_steps(first, batches, steps, owners, preemption.any_process(signalled), laps)
    if stopped is not None:
        distributed.first(lambda: None)  # the first process to leave with an error may end the others
        raise Terminated(stopped, signalled.asked)
    for line in counts.warnings(setup.text_lengths):
        print(line, file=sys.stderr)
    return owners.evaluator.tables or []


def _owners(setup: Setup, run: Run, steps: range, laps: startup.Laps) -> Owners:
    """Returns the owners of what happens around the steps: each of them has one concern and one piece of state."""
    config, done, total_steps = setup.config, steps.start - 1, setup.length.total_steps
    chief = jax.process_index() == 0  # the process that writes everything but the checkpoints
    speed = throughput.of_run(config, setup.model, setup.optimizer.trainable, setup.mesh)
    progress = Progress(done, total_steps, speed, shown=chief)
    record_ids = functools.partial(run.data.record_ids, config)
    watchdog = Watchdog(config.train.watchdog_minutes)
    recorder = Recorder(
        MetricWriter(run.folder, done, trackers.opened(config, run.folder, done)) if chief else None,
        progress,
        speed,
        Guard(run.folder, record_ids, config.train.max_skipped, writes=chief),
        every_steps=config.log.every_steps,
        total_steps=total_steps,
    )
    evaluator = Evaluator(
        run.score,
        recorder,
        watchdog,
        run.folder,
        every_steps=config.eval.every_steps,
        total_steps=total_steps,
        decides=config.checkpoint.best is not None,
        at_start=scores_its_start(config),
        forgetting=Forgetting(run.folder, config.eval.guard) if chief else None,
    )
    return Owners(
        compiled=CompiledSteps(setup.step(run.data.preprocessing), setup.shapes, recorder, watchdog, laps),
        recorder=recorder,
        evaluator=evaluator,
        saver=Saver(run.checkpoints, run.about, recorder, config.checkpoint, done=done, total_steps=total_steps),
        watchdog=watchdog,
        trace=profile.Profile(config.log.profile, run.folder, lambda: progress.spent("profile")),
    )


def scores_its_start(config: ConfigDict) -> bool:
    """Returns whether a new run evaluates before its first step: by itself where weights know something already."""
    if config.eval.at_start is not None:
        return config.eval.at_start
    if config.eval.guard:
        return True
    given = (config.model.init, config.model.image_init, config.model.text_init)
    return any(source not in (None, "random") for source in given)


def _longer(setup: Setup, shorter: int) -> str:
    """Returns in a line how a run that was finished after `shorter` steps continues for more epochs."""
    optimizer, total_steps = setup.config.optimizer, setup.length.total_steps
    said = f"note: the run was finished after step {shorter}, and epochs={setup.config.epochs:g} continue it to step "
    said += f"{total_steps}"
    if optimizer.schedule != "constant":
        before = learning_rate_schedule(optimizer, shorter, setup.length.steps_per_epoch)(shorter - 1)
        after = setup.optimizer.learning_rate(shorter)
        said += f"; the {optimizer.schedule} now ends there: the learning rate was {before:.3g} and is {after:.3g}"
    if setup.options.loss.long_weight != setup.config.loss.long_weight:
        said += "; loss.long_weight follows the longer run"
    return said


def _introduce(setup: Setup, run: Run, steps: range) -> None:
    """Says what is about to be trained."""
    config, done, total_steps = setup.config, steps.start - 1, setup.length.total_steps
    sizes = jax.tree.map(lambda param: param.size / 1e6, setup.shapes.params)
    trained = jax.tree.map(lambda size, trains: size * trains, sizes, setup.optimizer.trainable)
    millions, learning = (sum(jax.tree.leaves(tree)) for tree in (sizes, trained))
    begin = f"continuing after step {done} of {total_steps}" if done else f"{total_steps} steps"
    kind = "pairs" if config.data.sampling == "pairs" else "records"
    lines = [
        *mixture.retokenised(config, run.data.sources, run.data.tokenizer),
        f"{config.model.name}: {millions:.1f} M parameters, {learning:.1f} M trained, on {startup.machine()}",
        f"{run.data.samples:,} {kind}, {config.epochs:g} epochs of batch {config.batch_size}: {begin}",
    ]
    print("\n".join(lines), file=sys.stderr)
