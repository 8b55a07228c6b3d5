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
import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from ml_collections import ConfigDict
from orbax.checkpoint import v1 as ocp

from eval.reading import convert
from lrsclip_jax import host_memory
from lrsclip_jax.adapters import base
from lrsclip_jax.config import curve_hash
from lrsclip_jax.data import tokenizer_file
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.data.tokenizer import Tokenizer
from lrsclip_jax.errors import InputError
from lrsclip_jax.hosts import distributed
from lrsclip_jax.parameter_rules import path_of
from lrsclip_jax.run import manifest
from lrsclip_jax.run.workdir import CHECKPOINTS, folder_of, steps
from lrsclip_jax.step import TrainState

# Orbax raises a failure, and also logs it with its traceback from each of its threads and tasks.
logging.getLogger("absl").setLevel(logging.CRITICAL)
logging.getLogger("asyncio").setLevel(logging.CRITICAL)

_METRICS = "metrics"  # Orbax's name of a folder, and of the file in it


class _About(TypedDict):
    """The keys of `metadata` and `save` without which a checkpoint can't be read."""

    config: dict[str, Any]
    preprocessing: dict[str, Any]
    tokenizer: dict[str, str]
    step: int


def _without_late_answers(usual: Callable[[Any], Any]) -> Callable[[Any], None]:
    """After a failure, TensorStore's threads still answer to Orbax's loop that is closed; each prints a traceback."""

    def hook(found: Any) -> None:
        if str(found.exc_value) != "Event loop is closed":
            usual(found)

    return hook


sys.unraisablehook = _without_late_answers(sys.unraisablehook)


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
            raise _torn(folder, defect)
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
        raise InputError(f"{folder} can't be read ({_reason(error)}): remove that checkpoint") from error


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
        raise InputError(f"can't write {folder} ({_reason(error)})") from error


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


def restore(
    checkpoints: ocp.training.Checkpointer, like: TrainState, about: dict[str, Any], start: Any = None
) -> TrainState | None:
    """Returns the newest checkpoint's state, or None if there is none.

    Args:
      checkpoints: from `open_checkpoints`.
      like: the shapes, dtypes and shardings wanted (arrays or jax.ShapeDtypeStruct). The mesh, the devices and the
        number of processes may differ from those that wrote the checkpoint.
      about: from `metadata`.
      start: the parameters that the run starts from; those of an adapted run's base are taken from here.

    Raises:
      InputError: the checkpoint is damaged, holds arrays of another model or optimizer or the adapters of another base,
        or was written under the same config with another preprocessing or tokenizer.
    """
    newest = checkpoints.latest
    if newest is None:
        return None
    folder = checkpoints.directory / str(newest.step)
    described = _described(folder, "params", "optimizer", "trained")
    saved = described.custom_metadata
    for key in ("preprocessing", "tokenizer"):
        # A branch may change them with its config; under the same config they change only with other files.
        if saved.get("config_hash") == about["config_hash"] and saved[key] != about[key]:
            raise InputError(
                f"{folder} was written with another {key} ({_differences(saved[key], about[key])}): "
                "model.init no longer holds the weights that the run started from"
            )
    if "optimizer" not in described.metadata and saved["step"] == 0:
        raise InputError(f"{folder} holds weights alone: start a run in another folder, with model.init={folder}")
    base.check(folder, saved, about)
    averaged = "trained" in described.metadata  # train.ema may be set, or no more, since it was saved
    wanted = {"trained" if averaged else "params": base.trained(about, like.params)}
    if like.ema is not None:
        wanted["params"] = base.trained(about, like.ema)
    trees = _load(folder, described, wanted | {"optimizer": like.opt_state})
    rest = jax.tree.map(_placed, base.left_out(about, start), base.left_out(about, like.params))

    def whole(params: Any) -> Any:
        return base.joined(rest, params) if rest else params

    return TrainState(
        step=_placed(saved["step"], like.step),
        params=whole(trees["trained" if averaged else "params"]),
        opt_state=trees["optimizer"],
        skipped=_placed(saved.get("skipped", 0), like.skipped),
        # A copy, as a step may overwrite each array only once.
        ema=None if like.ema is None else jax.tree.map(jnp.copy, whole(trees["params"])),
    )


def find(source: str) -> epath.Path | None:
    """Returns the checkpoint that `source` names: the newest of a run folder, or the folder itself; None for others."""
    folder = folder_of(source)
    if (folder / "params").exists() and folder.name.isascii() and folder.name.isdigit():
        return folder
    saved = steps(folder)
    return folder / CHECKPOINTS / str(saved[-1]) if saved else None


def load_params(folder: epath.Path, like: Any) -> Any:
    """Returns the parameters of a checkpoint, shaped and sharded like the tree `like` (of arrays or their shapes)."""
    return _load(folder, _described(folder, "params"), {"params": like})["params"]


def read_metadata(folder: epath.Path) -> dict[str, Any]:
    """Returns the JSON of a checkpoint: that of `metadata`, with "step", "skipped" and "data".

    "data" is the position in the data: the seed, and how many samples of its stream the steps so far have read.
    """
    return _described(folder).custom_metadata


def tokenizer_of_run(folder: epath.Path, about: dict[str, Any]) -> Tokenizer | None:
    """Returns the tokenizer that the run of a checkpoint keeps in its folder; None where it keeps none.

    Args:
      folder: of the checkpoint.
      about: its JSON.

    Raises:
      InputError: the file is torn, or was replaced by another one.
    """
    name, path = about["tokenizer"]["name"], folder.parent.parent / tokenizer_file.FILE
    if name not in tokenizer_file.NAMES or not path.exists():
        return None
    tokenizer = tokenizer_file.read(path.read_bytes(), str(path), cased=name == "siglip_cased")
    if tokenizer.hash != about["tokenizer"]["hash"]:
        raise InputError(f"{path} is another tokenizer than that of the run: restore it")
    return tokenizer


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


def _placed(value: Any, like: Any) -> jax.Array:
    host = np.asarray(value, like.dtype)
    return jax.make_array_from_callback(host.shape, like.sharding, lambda index: host[index])


def _differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    return "; ".join(f"{key}: {old.get(key)} there, {new.get(key)} here" for key in new if old.get(key) != new[key])


def _being_written(checkpoints: ocp.training.Checkpointer, step: int) -> epath.Path:
    # On a local disk the name has a suffix after a dot until the checkpoint is complete.
    return next(path for path in checkpoints.directory.iterdir() if path.name.split(".")[0] == str(step))


def _described(folder: epath.Path, *trees: str) -> ocp.CheckpointMetadata:
    """Returns what a checkpoint says of itself, once it is known that its JSON and these trees are what was written."""
    # Orbax would notice a torn file, too, but in many tasks at once, each of which prints its own traceback.
    if defect := distributed.from_first(lambda: manifest.damage(folder, [manifest.METADATA, *trees])):
        raise _torn(folder, defect)
    described = _read(folder, lambda: ocp.checkpointables_metadata(folder))
    if not described.custom_metadata:
        raise _torn(folder, "its JSON is missing or cut off")
    try:
        convert(described.custom_metadata, manifest.METADATA, _About)
    except InputError as error:
        raise _torn(folder, str(error)) from None
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
            other = "the state of another optimizer" if name == "optimizer" else "another model"
            raise InputError(
                f"{folder} holds {other}: {path} is {found.get(path, 'absent')} there, "
                f"{wanted.get(path, 'absent')} here"
            )


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    # Without a sharding Orbax expects the devices that wrote the file.
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


@contextlib.contextmanager
def _failure_named(checkpoints: ocp.training.Checkpointer) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of any kind, from a background thread
        raise InputError(
            f"can't write a checkpoint to {checkpoints.directory} ({_reason(error)}); earlier ones are intact"
        ) from error


def _read(folder: epath.Path, reader: Callable[[], Any]) -> Any:
    try:
        return reader()
    except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged file
        # All files are there, so the disk or the network may be the cause.
        raise _torn(folder, _reason(error), unless="if this persists, ") from error


def _torn(folder: epath.Path, reason: str, unless: str = "") -> InputError:
    if reason.startswith(manifest.NAME):
        return InputError(f"{folder} can't be checked ({reason}): remove {folder / manifest.NAME} to do without")
    before = [step for step in steps(folder.parent.parent) if step < int(folder.name)]
    remedy = f" to continue from step {before[-1]}" if before else "; there is no earlier one"
    return InputError(f"{folder} can't be read ({reason}): {unless}remove this folder{remedy}")


def _reason(error: BaseException) -> str:
    while cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = cause
    if "No space left on device" in str(error):
        return "no space left on device"
    line = str(error).strip().split("\n")[0].split(" [tensorstore_spec")[0]
    return line[-200:] or type(error).__name__  # the end of TensorStore's messages says what happened
