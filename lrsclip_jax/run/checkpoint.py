"""Checkpoints of a run, written by Orbax: one bundle of the state and of what is needed to use it.

`WORKDIR/checkpoints/STEP/` holds two trees, `params` (so that an evaluation reads no optimizer state) and
`optimizer`, and JSON: step, skipped updates, data position, config and its hash, preprocessing, tokenizer. Random
numbers have no state: every draw is keyed by the seed and a step or record. A checkpoint appears under its name only
once it is complete, so the newest name is the newest complete one, whenever the process was killed. A manifest of its
files tells one that was torn later.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict
from orbax.checkpoint import v1 as ocp

from lrsclip_jax.config import curve_hash
from lrsclip_jax.data.images import Preprocessing
from lrsclip_jax.data.tokenizer import Tokenizer
from lrsclip_jax.errors import InputError
from lrsclip_jax.parameter_rules import path_of
from lrsclip_jax.run import manifest
from lrsclip_jax.run.workdir import CHECKPOINTS, folder_of, steps
from lrsclip_jax.step import TrainState

# Orbax logs a failure with its traceback from each of its threads and tasks, and raises it besides.
logging.getLogger("absl").setLevel(logging.CRITICAL)
logging.getLogger("asyncio").setLevel(logging.CRITICAL)


def open_checkpoints(run: epath.Path, config: ConfigDict) -> ocp.training.Checkpointer:
    """Opens the checkpoints of a run folder, on every process; remains of killed saves are removed.

    Args:
      run: the run's folder.
      config: `config.checkpoint`. The newest `keep` checkpoints stay, beside them one of every `keep_every_minutes`,
        and the `keep_best` best by the metric `best`: the lowest if its name ends in "loss", else the highest.

    Raises:
      InputError: none are to be kept, or the file that remembers a checkpoint's metrics is torn.
    """
    directory = run / CHECKPOINTS
    try:
        return ocp.training.Checkpointer(
            directory,
            # When to save is the loop's business: it counts steps and minutes.
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=_preserved(config),
            cleanup_tmp_directories=True,
        )
    except json.JSONDecodeError as error:  # from the only content that is read at once
        raise InputError(
            f"{_torn_metrics(directory)} is not readable JSON ({error}): remove this file, "
            "by which alone the best checkpoints are chosen"
        ) from error


def metadata(config: ConfigDict, preprocessing: Preprocessing, tokenizer: Tokenizer) -> dict[str, Any]:
    """Returns what every checkpoint of a run says of itself, as JSON values."""
    about = {
        "config": config.to_dict(),
        "config_hash": curve_hash(config),
        "preprocessing": dataclasses.asdict(preprocessing),
        "tokenizer": {"name": tokenizer.name, "hash": tokenizer.hash},
    }
    return json.loads(json.dumps(about))


def save(
    checkpoints: ocp.training.Checkpointer,
    state: TrainState,
    step: int,
    about: dict[str, Any],
    metrics: Mapping[str, float] | None = None,
) -> None:
    """Writes `state` in the background, after waiting for a save still under way. All processes call it.

    The arrays have left the device when this returns, so a later step may reuse (donate) their buffers; on the CPU
    they are read where they lie.

    Args:
      checkpoints: from `open_checkpoints`.
      state: after update `step`.
      step: not saved before.
      about: from `metadata`.
      metrics: of this step, the same on all processes, by which it may be among the best; without, it is not.

    Raises:
      InputError: the save before, or the beginning of this one, failed (a full disk); earlier ones are intact.
    """
    trees = {"params": state.params, "optimizer": state.opt_state}
    position = {"seed": about["config"]["seed"], "sample": step * about["config"]["batch_size"]}
    finite = {name: value for name, value in (metrics or {}).items() if math.isfinite(value)}
    options = ocp.options.AsyncOptions(
        post_finalization_callback=lambda: manifest.write(_being_written(checkpoints, step), [*trees]),
        # If a thread of their own could not make them, the threads that write would wait for them for twenty minutes,
        # and the end of the program for these.
        create_directories_asynchronously=False,
    )
    with _failure_named(checkpoints), ocp.Context(async_options=options):
        # Orbax's thread that removes what the old save superseded would otherwise wait for the new one in its place.
        checkpoints.wait()
        checkpoints.save_checkpointables_async(
            step,
            dict(trees),
            metrics=finite or None,
            custom_metadata=about | {"step": step, "skipped": int(state.skipped), "data": position},
        )


def write(run: epath.Path, params: Any, about: dict[str, Any]) -> None:
    """Writes weights that no run of ours has trained as checkpoint 0 of a new run folder, without an optimizer.

    Args:
      run: from `workdir.new`.
      params: float32 arrays and scalars.
      about: from `metadata`, and whatever else the checkpoint is to say.

    Raises:
      InputError: it can't be written.
    """
    folder = run / CHECKPOINTS / "0"
    position = {"seed": about["config"]["seed"], "sample": 0}
    # Not copied, and not compressed, which would save 8 % of the disk: a large model is in memory once.
    context = ocp.Context(
        memory_options=ocp.options.MemoryOptions(deepcopy_host_arrays=False),
        array_options=ocp.options.ArrayOptions(saving=ocp.options.ArrayOptions.Saving(use_compression=False)),
    )
    try:
        with context:
            ocp.save_checkpointables(
                folder,
                {"params": jax.tree.map(np.asarray, params)},
                custom_metadata=about | {"step": 0, "skipped": 0, "data": position},
            )
        manifest.write(folder, ["params"])
    except Exception as error:  # Orbax and TensorStore raise many kinds
        raise InputError(f"can't write {folder} ({_reason(error)})") from error


@contextlib.contextmanager
def closing(checkpoints: ocp.training.Checkpointer) -> Iterator[None]:
    """A context that ends only when the last save has: a program that exits cuts off the one under way.

    Raises InputError if that save failed, unless another error is on its way already.
    """
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):
            checkpoints.close()
        raise
    with _failure_named(checkpoints):
        checkpoints.close()


def restore(checkpoints: ocp.training.Checkpointer, like: TrainState, about: dict[str, Any]) -> TrainState | None:
    """Returns the newest checkpoint's state, or None if there is none.

    Args:
      checkpoints: from `open_checkpoints`.
      like: the shapes, dtypes and shardings wanted (arrays or jax.ShapeDtypeStruct). Neither the mesh nor the numbers
        of devices and processes need be those that wrote the checkpoint.
      about: from `metadata`.

    Raises:
      InputError: the checkpoint is torn, holds another model's or optimizer's arrays, or was written under the same
        config with another preprocessing or tokenizer.
    """
    newest = checkpoints.latest
    if newest is None:
        return None
    folder = checkpoints.directory / str(newest.step)
    described = _described(folder)
    saved = described.custom_metadata
    for key in ("preprocessing", "tokenizer"):
        # A branch may change them with its config; under the same config, only other files can have.
        if saved.get("config_hash") == about["config_hash"] and saved[key] != about[key]:
            raise InputError(
                f"{folder} was written with another {key} ({_differences(saved[key], about[key])}): "
                "model.init no longer holds the weights that the run began from"
            )
    if "optimizer" not in described.metadata and saved["step"] == 0:
        raise InputError(f"{folder} holds weights alone: begin a run in another folder, with model.init={folder}")
    trees = _load(folder, described, {"params": like.params, "optimizer": like.opt_state})
    return TrainState(
        step=_scalar(saved["step"], like.step),
        params=trees["params"],
        opt_state=trees["optimizer"],
        skipped=_scalar(saved.get("skipped", 0), like.skipped),
    )


def find(source: str) -> epath.Path | None:
    """Returns the checkpoint folder that `source` means, a run folder's newest or itself; None if it is neither."""
    folder = folder_of(source)
    if (folder / "params").exists() and folder.name.isdigit():
        return folder
    saved = steps(folder)
    return folder / CHECKPOINTS / str(saved[-1]) if saved else None


def load_params(folder: epath.Path, like: Any) -> Any:
    """Returns the parameters of one checkpoint, shaped and sharded as the tree `like` (of arrays or their shapes)."""
    return _load(folder, _described(folder), {"params": like})["params"]


def read_metadata(folder: epath.Path) -> dict[str, Any]:
    """Returns the JSON of a checkpoint.

    That is what `metadata` gave, with "step", "skipped" and "data", the position: the seed, and how many samples of
    its stream the steps so far have read.
    """
    return _described(folder).custom_metadata


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
        worst = math.inf if lowest else -math.inf  # of a checkpoint saved without this metric
        best = policies.BestN(
            get_metric_fn=lambda metrics: metrics.get(config.best, worst),
            reverse=lowest,
            n=config.keep_best,
            keep_checkpoints_without_metrics=False,
        )
        kept.append(best)
    return policies.AnyPreservationPolicy(kept)


def _torn_metrics(directory: epath.Path) -> epath.Path:
    for file in directory.glob("*/metrics/metrics"):
        try:
            json.loads(file.read_text())
        except json.JSONDecodeError:
            return file
    return directory


def _scalar(value: int, like: Any) -> jax.Array:
    return jax.make_array_from_callback((), like.sharding, lambda _: np.asarray(value, like.dtype))


def _differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    return "; ".join(f"{key}: {old.get(key)} there, {new.get(key)} here" for key in new if old.get(key) != new[key])


def _being_written(checkpoints: ocp.training.Checkpointer, step: int) -> epath.Path:
    # On local disks it gets its name, without a suffix after a dot, when it is complete.
    return next(path for path in checkpoints.directory.iterdir() if path.name.split(".")[0] == str(step))


def _described(folder: epath.Path) -> ocp.CheckpointMetadata:
    # Orbax would notice a torn file, too, but in many tasks at once, of which each prints its own traceback.
    if defect := manifest.damage(folder):
        raise _torn(folder, defect)
    described = _read(folder, lambda: ocp.checkpointables_metadata(folder))
    if not described.custom_metadata:
        raise _torn(folder, "its JSON is missing or cut off")
    return described


def _load(folder: epath.Path, described: ocp.CheckpointMetadata, trees: dict[str, Any]) -> dict[str, Any]:
    for name, tree in trees.items():
        if not jax.tree.leaves(described.metadata.get(name)):
            raise _torn(folder, f"{name} is missing")
        _check_shapes(folder, name, described.metadata[name], tree)
    return _read(folder, lambda: ocp.load_checkpointables(folder, jax.tree.map(_abstract, trees)))


def _check_shapes(folder: epath.Path, name: str, saved: Any, expected: Any) -> None:
    found, wanted = (
        {path_of(path): tuple(leaf.shape) for path, leaf in jax.tree.leaves_with_path(tree)}
        for tree in (saved, expected)
    )
    for path in sorted(found.keys() | wanted.keys()):
        if found.get(path) != wanted.get(path):
            other = "another model" if name == "params" else "the state of another optimizer"
            raise InputError(
                f"{folder} holds {other}: {path} is {found.get(path, 'absent')} there, "
                f"{wanted.get(path, 'absent')} here"
            )


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    # Without a sharding Orbax would want the devices that wrote the file.
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


@contextlib.contextmanager
def _failure_named(checkpoints: ocp.training.Checkpointer) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # what a background thread met: any kind
        raise InputError(
            f"can't write a checkpoint to {checkpoints.directory} ({_reason(error)}); earlier ones are intact"
        ) from error


def _read(folder: epath.Path, reader: Callable[[], Any]) -> Any:
    try:
        return reader()
    except Exception as error:  # Orbax and TensorStore raise many kinds for a torn file
        # All files are there, so it may as well be the disk or the network.
        raise _torn(folder, _reason(error), unless="if it stays so, ") from error


def _torn(folder: epath.Path, reason: str, unless: str = "") -> InputError:
    before = [step for step in steps(folder.parent.parent) if step < int(folder.name)]
    remedy = f" to go on from step {before[-1]}" if before else "; there is no earlier one"
    return InputError(f"{folder} can't be read ({reason}): {unless}remove this folder{remedy}")


def _reason(error: BaseException) -> str:
    while cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = cause
    if "No space left on device" in str(error):
        return "no space left on device"
    line = str(error).strip().split("\n")[0].split(" [tensorstore_spec")[0]
    return line[-200:] or type(error).__name__  # TensorStore's messages say what happened at their end
