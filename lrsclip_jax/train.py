"""The training program, read from top to bottom: devices, folder, model, data, state, programs, loop, report."""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from lrsclip_jax import config_checks, heldout, text_kinds
from lrsclip_jax.data.batches import pipeline, prefetch
from lrsclip_jax.data.tokenizer import tokenizer_for
from lrsclip_jax.encoders import encoders
from lrsclip_jax.errors import InputError, Terminated
from lrsclip_jax.hosts import distributed
from lrsclip_jax.models import zoo
from lrsclip_jax.optimizer import create, frozen_by
from lrsclip_jax.run import (
    checkpoint,
    nonfinite,
    preemption,
    profile,
    programs,
    report,
    startup,
    throughput,
    words,
    workdir,
)
from lrsclip_jax.run.metrics import MetricWriter, read_metrics
from lrsclip_jax.run.progress import Progress
from lrsclip_jax.run.watchdog import Watchdog
from lrsclip_jax.sharding import check_divides, local_rows, make_mesh, to_devices
from lrsclip_jax.step import batch_shape, initial_state, make_train_step, state_shapes
from lrsclip_jax.weights import build_model, initial_parameters


def train_and_evaluate(
    config: ConfigDict, folder: str, branch: str | None = None, laps: startup.Laps | None = None
) -> dict[str, float]:
    """Trains as `config` says in `folder`, continuing from its newest checkpoint; evaluates and writes the report.

    The processes of a run (lrsclip_jax.hosts.distributed) all call it with the same arguments.

    Args:
      config: from `lrsclip_jax.config.load`.
      folder: the run's folder (`--workdir`), local or gs://….
      branch: another folder, in which to go on from the newest checkpoint of `folder`.
      laps: where the time of the start went so far.

    Returns:
      The final scores, named "eval/SET/long/text_to_image/R@1" and so on.

    Raises:
      InputError: for everything that a user can mend, in one line.
      Terminated: after SIGTERM, once the state is saved.
    """
    begun = time.perf_counter()
    laps = laps or startup.Laps(begun)
    chief = jax.process_index() == 0  # the process that writes all but the checkpoints

    # Devices and folder
    config_checks.check(config)
    sources = pipeline.open_sources(config)
    config, notes = text_kinds.for_sources(config, sources)
    if chief and notes:
        print("\n".join(notes), file=sys.stderr)
    mesh = make_mesh(config.mesh)
    check_divides("batch_size", config.batch_size, mesh, config.train.microbatches)
    check_divides("eval.batch_size", config.eval.batch_size, mesh)
    startup.cache_compiled_programs(config.train.compilation_cache)
    distributed.first(lambda: workdir.branch(folder, branch, config) if branch else workdir.claim(folder, config))
    run = workdir.folder_of(branch or folder)
    distributed.check_shared(run)
    laps.end("devices")

    # Model
    model = build_model(config)
    lengths = {"long": config.data.long_length, "short": config.data.short_length}

    # Data
    shape = batch_shape(config, mesh)
    tokenizer = tokenizer_for(zoo.text_kind(model))
    held_out = [heldout.load(source, tokenizer, config.eval.templates) for source in config.eval.sources]
    heldout.check_best(config.checkpoint.best, held_out, config.eval.truncations)
    samples = sum(len(source) for source, _ in sources)
    total_steps = config_checks.total_steps(config, samples)
    laps.end("data")

    # Parameters and optimizer
    params, preprocessing = initial_parameters(model, config)
    optimizer = create(
        config.optimizer,
        params,
        total_steps=total_steps,
        steps_per_epoch=samples / config.batch_size,
        freeze=frozen_by(config),
    )
    laps.end("parameters")

    # State: that of the newest checkpoint, or new
    shapes = state_shapes(params, optimizer, mesh, config.mesh.rules)
    checkpoints = checkpoint.open_checkpoints(run, config.checkpoint)
    about = checkpoint.metadata(config, preprocessing, tokenizer)
    state = checkpoint.restore(checkpoints, shapes, about) or initial_state(params, optimizer, shapes)
    done = int(state.step)
    if chief:
        notes = pipeline.retokenised(config, sources, tokenizer)
        _introduce(config, params, optimizer.trainable, samples, done, total_steps, notes)
    del params
    laps.end("restore")

    # What the loop uses
    compiled = programs.Programs(make_train_step(model, optimizer, preprocessing, config, shapes), shapes)
    towers = encoders(model, preprocessing, mesh)
    data_report = pipeline.DataReport(config.data.max_torn)
    on_host = pipeline.batches(
        sources,
        tokenizer,
        preprocessing,
        shape,
        data_report,
        seed=config.seed,
        start_step=done,
        short_text=config.data.short_text,
        crop_scale=config.data.crop_scale,
        decoder=config.data.decoder,
        threads=config.data.threads,
        rows=local_rows(config.batch_size, mesh),
    )
    on_devices = prefetch.ahead(
        itertools.islice(on_host, total_steps - done), lambda batch: to_devices(batch, mesh, config.batch_size)
    )
    speed = throughput.of_run(config, model, optimizer.trainable, mesh)
    writer = MetricWriter(run, done, config.log.tensorboard) if chief else None
    progress = Progress(done, total_steps, speed, shown=chief)
    unread: list[tuple[int, throughput.Texts, dict[str, jax.Array]]] = []
    traced = profile.Profile(config.log.profile, run, lambda: progress.spent("profile"))
    saved, saved_at = done, time.perf_counter()

    def write(step: int, values: dict[str, float]) -> None:
        if writer and values:
            writer.write(step, values)

    def read() -> None:
        """Reads the metrics of the steps since the last time, and stops the run at one that was not finite."""
        with progress.spent("device"):
            found = [(step, slots, jax.device_get(metrics)) for step, slots, metrics in unread]
        for step, slots, metrics in found:
            values = {name: value.item() for name, value in metrics.items()}
            skipped, squares = values.pop("skipped"), values.pop("text_squares")
            texts = speed.texts(values["text_tokens"], squares)
            progress.done(texts, slots)
            if not values.pop("finite"):
                ids = pipeline.record_ids(sources, config.batch_size, config.seed, step)
                what = nonfinite.tell(run, step, values, ids, writes=chief)
                if skipped > config.train.max_skipped:
                    before = state.replace(skipped=state.skipped - 1)
                    if step > 1 and (checkpoints.latest is None or checkpoints.latest.step < step - 1):
                        checkpoint.save(checkpoints, before, step - 1, about)
                    raise InputError(f"{what}. {nonfinite.ADVICE}")
                if chief:
                    print(f"warning: {what}; skipped, {skipped} of {config.train.max_skipped} allowed", file=sys.stderr)
            elif step % config.log.every_steps == 0 or step == total_steps:
                padding = {"padding": 1 - texts.tokens / slots.tokens}
                write(step, values | padding | progress.report(step, values))
        unread.clear()

    def save(step: int, scores: dict[str, float]) -> None:
        nonlocal saved, saved_at
        read()  # what is saved is known to be finite
        with progress.spent("checkpoint"):
            checkpoint.save(checkpoints, state, step, about, scores)
        saved, saved_at = step, time.perf_counter()

    def evaluate(step: int) -> list[heldout.Table]:
        read()  # what is scored is known to be finite
        with progress.spent("evaluation"), watchdog.paused():
            tables = [
                heldout.score(
                    held,
                    towers,
                    state.params,
                    tokenizer,
                    preprocessing,
                    lengths=lengths,
                    truncations=config.eval.truncations,
                    batch_size=config.eval.batch_size,
                )
                for held in held_out
            ]
        write(step, heldout.flat(tables))
        return tables

    def program(batch: dict[str, jax.Array]) -> Any:
        """Returns the step for batches of such shapes, compiled if these are the first."""
        if batch not in compiled:
            read()  # what is under way does not end within another part of the time
            if chief:
                print(f"compiling the step for {programs.told(batch)}", file=sys.stderr)
            with progress.spent("compile"), watchdog.paused():
                compiled.compile(batch, laps)
        return compiled[batch]

    def is_evaluated(step: int) -> bool:
        return step == total_steps or bool(config.eval.every_steps and step % config.eval.every_steps == 0)

    # The loop
    with (
        preemption.watch() as terminated,
        Watchdog(config.train.watchdog_minutes) as watchdog,
        checkpoint.closing(checkpoints),
        contextlib.closing(on_host),
        contextlib.closing(on_devices),
        traced,
    ):
        tables, ends = None, False
        if 0 < done < total_steps and is_evaluated(done) and not distributed.from_first(lambda: _has_scores(run, done)):
            evaluate(done)  # the run ended between a checkpoint and its scores
        overdue = preemption.any_process(lambda: time.perf_counter() - saved_at > 60 * config.checkpoint.every_minutes)
        terminated = preemption.any_process(terminated)
        for step in range(done + 1, total_steps + 1):
            traced.before(step)
            with profile.annotated(step):
                with progress.spent("data_wait"):
                    batch = next(on_devices)
                if step == done + 1:
                    laps.end("first batch")
                state, metrics = program(batch)(state, batch)
            with progress.spent("device"):
                # For the step before: the devices never wait for the host, and it is never far ahead of them.
                jax.block_until_ready(unread[-1:])
            if step == done + 1:
                with progress.spent("device"):
                    jax.block_until_ready(metrics)
                laps.end("first step")
                if chief:
                    print(f"start-up: {laps.line()}", file=sys.stderr)
            if unread and unread[-1][0] % config.log.every_steps == 0:
                read()
            unread.append((step, speed.slots(batch), metrics))
            progress.dispatched()
            watchdog.step(step)
            traced.after(step, metrics)

            # Several processes learn of their clocks a step late, so also of one that has been obeyed already.
            ends, late = terminated(), overdue() and step > saved + 1
            # Scores that decide about a checkpoint come before it; otherwise what was learnt is made safe first.
            decides = is_evaluated(step) and config.checkpoint.best
            if decides:
                tables = evaluate(step)
            if decides or ends or late or step == total_steps or step % config.checkpoint.every_steps == 0:
                save(step, heldout.flat(tables) if decides else {})
            if ends:
                break
            if is_evaluated(step) and not decides:
                tables = evaluate(step)
        progress.close()
        if not ends and tables is None:  # a finished run, started again
            tables = evaluate(total_steps)
    if ends:
        distributed.first(lambda: None)  # the first process to leave with an error may end the others
        raise Terminated(step)
    for line in data_report.warnings(lengths):
        print(line, file=sys.stderr)

    # Report
    if chief:
        for table in tables:
            print("\n".join(heldout.lines(table)))
        about_run = report.Run(
            title=f"{run.name}: {config.model.name}",
            recipe=words.describe(config),
            data=", ".join(name.rsplit("/", 1)[-1] for name, _ in pipeline.weighted(config.data.sources)),
            batch_size=config.batch_size,
            seconds=time.perf_counter() - begun,
            machine=words.machine(),
        )
        page = report.write_report(run, about_run, read_metrics(run), [*map(heldout.for_report, tables)])
        print(f"report: {page}")
    return heldout.flat(tables)


def _has_scores(run: epath.Path, step: int) -> bool:
    rows = (row for row in read_metrics(run) if row["step"] == step)
    return any(name.startswith("eval/") for row in rows for name in row)


def _introduce(
    config: ConfigDict, params: Any, trainable: Any, samples: int, done: int, total_steps: int, notes: list[str]
) -> None:
    """Says what is about to be trained."""
    sizes = jax.tree.map(lambda param: param.size / 1e6, params)
    trained = jax.tree.map(lambda size, trains: size * trains, sizes, trainable)
    millions, of_them = (sum(jax.tree.leaves(tree)) for tree in (sizes, trained))
    begin = f"continuing after step {done} of {total_steps}" if done else f"{total_steps} steps"
    what = "pairs" if config.data.sampling == "pairs" else "records"
    lines = [
        *notes,
        f"{config.model.name}: {millions:.1f} M parameters, {of_them:.1f} M trained, on {words.machine()}",
        f"{samples:,} {what}, {config.epochs:g} epochs of batch {config.batch_size}: {begin}",
    ]
    print("\n".join(lines), file=sys.stderr)
