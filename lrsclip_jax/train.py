"""The training program, read from top to bottom: folder, devices, data, model, state, loop, evaluation, report."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import jax
from ml_collections import ConfigDict

from lrsclip_jax import checkpoint, heldout, report, telemetry, workdir
from lrsclip_jax.data import pipeline
from lrsclip_jax.data.tokenizer import clip_tokenizer
from lrsclip_jax.embed import encoders
from lrsclip_jax.errors import InputError
from lrsclip_jax.optimizer import create
from lrsclip_jax.sharding import check_divides, data_mesh, to_devices
from lrsclip_jax.step import initial_state, make_train_step
from lrsclip_jax.weights import build_model, initial_parameters


def train_and_evaluate(config: ConfigDict, folder: str, branch: str | None = None) -> dict[str, float]:
    """Trains as `config` says in `folder`, continuing from its newest checkpoint; evaluates and writes the report.

    Args:
      config: from `lrsclip_jax.config.load`.
      folder: the run's folder (`--workdir`), local or gs://….
      branch: another folder, in which to go on from the newest checkpoint of `folder`.

    Returns:
      The final scores, named "eval/SET/long/text_to_image/R@1" and so on.

    Raises:
      InputError: for everything that a user can mend, in one line.
    """
    begun = time.perf_counter()

    # Folder and devices
    run = workdir.branch(folder, branch, config) if branch else workdir.claim(folder, config)
    mesh = data_mesh()
    check_divides("batch_size", config.batch_size, mesh)
    check_divides("eval.batch_size", config.eval.batch_size, mesh)

    # Model
    model = build_model(config)
    lengths = {"long": config.data.long_length, "short": config.data.short_length}
    for kind, length in lengths.items():
        if length > model.text.context_length:
            raise InputError(
                f"data.{kind}_length is {length}, the text tower has {model.text.context_length} positions"
            )

    # Data
    tokenizer = clip_tokenizer()
    sources = [(pipeline.open_source(name), weight) for name, weight in pipeline.weighted(config.data.sources)]
    held_out = [heldout.load(source, tokenizer) for source in config.eval.sources]
    records = sum(len(source) for source, _ in sources)
    total_steps = math.floor(config.epochs * records / config.batch_size)
    if not total_steps:
        raise InputError(f"{records} records and epochs={config.epochs} make no batch of {config.batch_size}")

    # Parameters and optimizer
    params, preprocessing = initial_parameters(model, config)
    optimizer = create(
        config.optimizer,
        params,
        total_steps=total_steps,
        steps_per_epoch=records / config.batch_size,
        freeze=_frozen(config),
    )

    # State: new, or the newest checkpoint
    checkpoints = checkpoint.open_checkpoints(run, config.checkpoint.keep)
    state = checkpoint.restore(checkpoints, initial_state(params, optimizer, mesh))
    about = checkpoint.metadata(config, preprocessing, tokenizer)
    done = int(state.step)
    _introduce(config, params, optimizer.trainable, records, done, total_steps)
    del params

    # The loop
    data_report = pipeline.DataReport(config.data.max_torn)
    batches = pipeline.batches(
        sources,
        tokenizer,
        preprocessing,
        pipeline.BatchShape(config.batch_size, **{f"{kind}_length": length for kind, length in lengths.items()}),
        data_report,
        seed=config.seed,
        start_step=done,
        short_text=config.data.short_text,
        crop_scale=config.data.crop_scale,
        threads=config.data.threads,
        host=jax.process_index(),
        hosts=jax.process_count(),
    )
    train_step = make_train_step(model, optimizer, preprocessing, config.loss, mesh)
    towers = encoders(model, preprocessing, mesh)
    writer = telemetry.MetricWriter(run, done, config.log.tensorboard)
    progress = telemetry.Progress(done, total_steps, config.batch_size)

    def evaluate(step: int) -> list[heldout.Table]:
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
        if tables:
            writer.write(step, heldout.flat(tables))
        return tables

    def read(step: int, metrics: dict[str, jax.Array]) -> dict[str, float]:
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(values[name]):
                raise InputError(
                    f"{name} is {values[name]} at step {step}: lower optimizer.learning_rate, or set "
                    "optimizer.clip_norm; the last checkpoint is unharmed"
                )
        return values

    def log(step: int, metrics: dict[str, jax.Array]) -> None:
        values = read(step, metrics)
        writer.write(step, values | progress.report(step, values))

    saved_at = time.perf_counter()
    unread = None  # a step's metrics are read once the next step is under way, so that the device never waits
    for step in range(done + 1, total_steps + 1):
        with progress.waiting():
            batch = to_devices(next(batches), mesh)
        state, metrics = train_step(state, batch)
        progress.step()
        if unread:
            log(*unread)
            unread = None
        save = (
            step % config.checkpoint.every_steps == 0
            or time.perf_counter() - saved_at > 60 * config.checkpoint.every_minutes
            or step == total_steps
        )
        if step % config.log.every_steps == 0 or step == total_steps:
            unread = step, metrics
        if save:
            with progress.outside():
                read(step, metrics)  # what is saved is known to be finite
                checkpoint.save(checkpoints, state, step, about)
            saved_at = time.perf_counter()
        if config.eval.every_steps and step % config.eval.every_steps == 0 and step < total_steps:
            with progress.outside():
                evaluate(step)
    if unread:
        log(*unread)
    progress.close()
    checkpoint.close(checkpoints)
    for line in data_report.warnings(lengths):
        print(line, file=sys.stderr)

    # Evaluation and report
    tables = evaluate(total_steps)
    for table in tables:
        print("\n".join(heldout.lines(table)))
    if jax.process_index() == 0:
        about_run = report.Run(
            title=f"{run.name}: {config.model.name}",
            recipe=telemetry.describe(config),
            data=", ".join(name.rsplit("/", 1)[-1] for name, _ in pipeline.weighted(config.data.sources)),
            batch_size=config.batch_size,
            seconds=time.perf_counter() - begun,
            machine=telemetry.machine(),
        )
        page = report.write_report(run, about_run, telemetry.read_metrics(run), [*map(heldout.for_report, tables)])
        print(f"report: {page}")
    return heldout.flat(tables)


def _frozen(config: ConfigDict) -> tuple[str, ...]:
    """What the model's and the loss's own keys freeze, as rules of the optimizer."""
    positions = config.model.text.get("frozen_positions", 0)
    rules = (f"text/position_embedding[0:{positions}]",) if positions else ()
    return rules if config.loss.learn_temperature else (*rules, "logit_scale")


def _introduce(config: ConfigDict, params: Any, trainable: Any, records: int, done: int, total_steps: int) -> None:
    """Says what is about to be trained."""
    sizes = jax.tree.map(lambda param: param.size / 1e6, params)
    trained = jax.tree.map(lambda size, trains: size * trains, sizes, trainable)
    millions, of_them = (sum(jax.tree.leaves(tree)) for tree in (sizes, trained))
    begin = f"continuing after step {done} of {total_steps}" if done else f"{total_steps} steps"
    print(
        f"{config.model.name}: {millions:.1f} M parameters, {of_them:.1f} M trained, on {telemetry.machine()}\n"
        f"{records:,} records, {config.epochs:g} epochs of batch {config.batch_size}: {begin}",
        file=sys.stderr,
    )
