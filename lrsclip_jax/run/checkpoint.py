"""Checkpoints of a run, written by Orbax: the state, with everything that is needed to use it.

`WORKDIR/checkpoints/STEP/` holds two trees, `params` (so that an evaluation reads no optimizer state) and
`optimizer`, and JSON: step, skipped updates, data position, config and its hash, preprocessing, tokenizer; of an
adapted run only the parameters that train, and JSON about the others (`lrsclip_jax.adapters.base`). Random numbers have
no state: every draw is keyed by the seed and a step or record. With `train.ema` there is a third tree, `trained`, and
`params` is the average of these weights. A checkpoint gets its name only once it is complete, so the newest name is the
newest complete checkpoint, whenever the process was killed. A manifest with the checksums of its files shows damage
that came later: what is read is compared first.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict
from orbax.checkpoint import v1 as ocp

from lrsclip_jax import host_memory
from lrsclip_jax.adapters import base
from lrsclip_jax.config import curve_hash
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.data.tokenizer import Tokenizer
from lrsclip_jax.errors import InputError
from lrsclip_jax.run import manifest
from lrsclip_jax.run.checkpoint_reader import reason_of, torn
from lrsclip_jax.run.workdir import CHECKPOINTS, steps
from lrsclip_jax.step import TrainState

_METRICS = "metrics"  # Orbax's name of a folder, and of the file in it


def open_checkpoints(run: epath.Path, config: ConfigDict) -> ocp.training.Checkpointer:
    """Opens the checkpoints of a run folder, on every process, and removes what killed saves left behind.

    Args:
      run: the run's folder.
      config: `config.checkpoint`. It keeps the newest `keep` checkpoints, one of every `keep_every_minutes`, and the
        `keep_best` best by the metric `best`: the lowest if its name ends in "loss", else the highest.

    Raises:
      InputError: the config keeps none, or the file with a checkpoint's metrics is damaged.
    """
    directory = run / CHECKPOINTS
    preserved = _preserved(config)
    for folder in (directory / str(step) for step in steps(run)):  # Orbax reads this much of each
        file = folder / _METRICS / _METRICS
        # A kill may leave the rest of a superseded checkpoint that was being removed.
        if (folder / manifest.METADATA).exists() and (defect := manifest.damage(folder, [manifest.METADATA])):
            raise torn(folder, defect)
        if file.exists() and (defect := manifest.damage(folder, [_METRICS])):
            raise _torn_metrics(file, defect)
    try:
        return ocp.training.Checkpointer(
            directory,
            # The saver decides when to save: it counts steps and minutes.
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=preserved,
            cleanup_tmp_directories=True,
        )
    except ValueError as error:  # from checkpoints without a manifest, whose JSON nobody has compared
        if file := _torn_json(directory, f"*/{_METRICS}/{_METRICS}"):
            raise _torn_metrics(file, f"not readable JSON, {error}") from error
        folder = _torn_json(directory, f"*/{manifest.METADATA}") or directory
        raise InputError(f"{folder} can't be read ({reason_of(error)}): remove that checkpoint") from error


def metadata(
    config: ConfigDict, preprocessing: Preprocessing, tokenizer: Tokenizer, params: Any = None
) -> dict[str, Any]:
    """Returns the description that every checkpoint of a run carries, as JSON values.

    `params` are those that the run starts from; an adapted one needs them.
    """
    about = {
        "config": config.to_dict(),
        "config_hash": curve_hash(config),
        "preprocessing": preprocessing.described(),
        "tokenizer": {"name": tokenizer.name, "hash": tokenizer.hash},
    } | base.described(config, params)
    return json.loads(json.dumps(about))


def save(
    checkpoints: ocp.training.Checkpointer,
    state: TrainState,
    step: int,
    about: dict[str, Any],
    metrics: Mapping[str, float] | None = None,
) -> None:
    """Writes `state` in the background, after waiting for a save still under way. All processes call it.

    The arrays have been copied from the device when this returns, so a later step may reuse (donate) their buffers;
    on the CPU they are read in place.

    Args:
      checkpoints: from `open_checkpoints`.
      state: after update `step`.
      step: not saved before.
      about: from `metadata`.
      metrics: of this step, the same on all processes, which say whether it is among the best; None: it is not.

    Raises:
      InputError: the last save, or the beginning of this one, failed (a full disk); earlier ones are intact.
    """
    # Orbax may read host memory in place, and the next step writes there.
    optimizer = host_memory.copied_to_devices(state.opt_state)
    trees = {"params": base.trained(about, state.weights), "optimizer": optimizer}
    if state.ema is not None:
        trees["trained"] = base.trained(about, state.params)
    position = {"seed": about["config"]["seed"], "sample": step * about["config"]["batch_size"]}
    finite = {name: value for name, value in (metrics or {}).items() if math.isfinite(value)}
    described = about | {"step": step, "skipped": int(state.skipped), "data": position}
    options = ocp.options.AsyncOptions(
        # Orbax keeps the callback after the save: if it refers to the arrays, every saved state stays in memory.
        post_finalization_callback=lambda: manifest.write(_being_written(checkpoints, step), described),
        # Otherwise a thread makes them, and where it fails the writing threads wait for twenty minutes, and the end of
        # the program with them.
        create_directories_asynchronously=False,
    )
    with _failure_named(checkpoints), ocp.Context(async_options=options):
        # Otherwise Orbax's thread that removes superseded checkpoints would wait for the new save, not for the old one.
        checkpoints.wait()
        checkpoints.save_checkpointables_async(
            step,
            dict(trees),
            metrics=finite or None,
            custom_metadata=described,
        )


def write(run: epath.Path, params: Any, about: dict[str, Any]) -> None:
    """Writes weights that were not trained here as checkpoint 0 of a new run folder, without an optimizer.

    Args:
      run: from `workdir.new`.
      params: float32 arrays and scalars.
      about: from `metadata`, with any further keys.

    Raises:
      InputError: the checkpoint can't be written.
    """
    folder = run / CHECKPOINTS / "0"
    position = {"seed": about["config"]["seed"], "sample": 0}
    described = about | {"step": 0, "skipped": 0, "data": position}
    # Without a copy and without compression (8 % of the disk), so that a large model is in memory once.
    context = ocp.Context(
        memory_options=ocp.options.MemoryOptions(deepcopy_host_arrays=False),
        array_options=ocp.options.ArrayOptions(saving=ocp.options.ArrayOptions.Saving(use_compression=False)),
    )
    try:
        with context:
            ocp.save_checkpointables(
                folder,
                {"params": jax.tree.map(np.asarray, params)},
                custom_metadata=described,
            )
        manifest.write(folder, described)
    except Exception as error:  # Orbax and TensorStore raise many kinds
        raise InputError(f"can't write {folder} ({reason_of(error)})") from error


@contextlib.contextmanager
def closing(checkpoints: ocp.training.Checkpointer) -> Iterator[None]:
    """A context that ends once the last save is complete: the end of the program would cut it off.

    Raises InputError if that save failed, unless another error ends the context.
    """
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):
            checkpoints.close()
        raise
    with _failure_named(checkpoints):
        checkpoints.close()


def _preserved(config: ConfigDict) -> ocp.training.preservation_policies.PreservationPolicy:
    policies = ocp.training.preservation_policies
    for key in ("keep", "keep_best"):
        if config[key] < 1:
            raise InputError(f"checkpoint.{key} is {config[key]}: it must be at least 1")
    kept = [policies.LatestN(config.keep)]
    if config.keep_every_minutes:
        kept.append(policies.EveryNSeconds(60 * config.keep_every_minutes))
    if config.best:
        lowest = config.best.endswith("loss")
        worst = math.inf if lowest else -math.inf  # for a checkpoint saved without this metric
        best = policies.BestN(
            get_metric_fn=lambda metrics: metrics.get(config.best, worst),
            reverse=lowest,
            n=config.keep_best,
            keep_checkpoints_without_metrics=False,
        )
        kept.append(best)
    return policies.AnyPreservationPolicy(kept)


def _torn_metrics(file: epath.Path, reason: str) -> InputError:
    return InputError(
        f"{file} can't be read ({reason}): remove this file, which only says which checkpoints are the best"
    )


def _torn_json(directory: epath.Path, pattern: str) -> epath.Path | None:
    for file in directory.glob(pattern):
        try:
            json.loads(file.read_bytes())
        except ValueError:
            return file
    return None


def _being_written(checkpoints: ocp.training.Checkpointer, step: int) -> epath.Path:
    # On a local disk the name has a suffix after a dot until the checkpoint is complete.
    return next(path for path in checkpoints.directory.iterdir() if path.name.split(".")[0] == str(step))


@contextlib.contextmanager
def _failure_named(checkpoints: ocp.training.Checkpointer) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of any kind, from a background thread
        raise InputError(
            f"can't write a checkpoint to {checkpoints.directory} ({reason_of(error)}); earlier ones are intact"
        ) from error
