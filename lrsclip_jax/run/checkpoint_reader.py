"""Reads the checkpoints that `lrsclip_jax.run.checkpoint` writes: to continue a run, or to use its weights.

Files are compared with the manifest before Orbax reads them, and a damaged checkpoint is one line that names what to
remove and what is left.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from orbax.checkpoint import v1 as ocp

from eval.reading import convert
from lrsclip_jax.adapters import base
from lrsclip_jax.data import tokenizer_file
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


def _without_late_answers(usual: Callable[[Any], Any]) -> Callable[[Any], None]:
    """After a failure, TensorStore's threads still answer to Orbax's loop that is closed; each prints a traceback."""

    def hook(found: Any) -> None:
        if str(found.exc_value) != "Event loop is closed":
            usual(found)

    return hook


sys.unraisablehook = _without_late_answers(sys.unraisablehook)


class _About(TypedDict):
    """The keys of `checkpoint.metadata` and `checkpoint.save` without which a checkpoint can't be read."""

    config: dict[str, Any]
    preprocessing: dict[str, Any]
    tokenizer: dict[str, str]
    step: int


def find(source: str) -> epath.Path | None:
    """Returns the checkpoint that `source` names: the newest of a run folder, or the folder itself; None for others."""
    folder = folder_of(source)
    if (folder / "params").exists() and folder.name.isascii() and folder.name.isdigit():
        return folder
    saved = steps(folder)
    return folder / CHECKPOINTS / str(saved[-1]) if saved else None


def read_metadata(folder: epath.Path) -> dict[str, Any]:
    """Returns the JSON of a checkpoint: that of `checkpoint.metadata`, with "step", "skipped" and "data".

    "data" is the position in the data: the seed, and how many samples of its stream the steps so far have read.
    """
    return _described(folder).custom_metadata


def load_params(folder: epath.Path, like: Any) -> Any:
    """Returns the parameters of a checkpoint, shaped and sharded like the tree `like` (of arrays or their shapes)."""
    return _load(folder, _described(folder, "params"), {"params": like})["params"]


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


def restore(
    checkpoints: ocp.training.Checkpointer, like: TrainState, about: dict[str, Any], start: Any = None
) -> TrainState | None:
    """Returns the newest checkpoint's state, or None if there is none.

    Args:
      checkpoints: from `checkpoint.open_checkpoints`.
      like: the shapes, dtypes and shardings wanted (arrays or jax.ShapeDtypeStruct). The mesh, the devices and the
        number of processes may differ from those that wrote the checkpoint.
      about: from `checkpoint.metadata`.
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


def _described(folder: epath.Path, *trees: str) -> ocp.CheckpointMetadata:
    """Returns what a checkpoint says of itself, once it is known that its JSON and these trees are what was written."""
    # Orbax would notice a torn file, too, but in many tasks at once, each of which prints its own traceback.
    if defect := distributed.from_first(lambda: manifest.damage(folder, [manifest.METADATA, *trees])):
        raise torn(folder, defect)
    described = _read(folder, lambda: ocp.checkpointables_metadata(folder))
    if not described.custom_metadata:
        raise torn(folder, "its JSON is missing or cut off")
    try:
        convert(described.custom_metadata, manifest.METADATA, _About)
    except InputError as error:
        raise torn(folder, str(error)) from None
    return described


def _load(folder: epath.Path, described: ocp.CheckpointMetadata, trees: dict[str, Any]) -> dict[str, Any]:
    for name, tree in trees.items():
        if not jax.tree.leaves(described.metadata.get(name)):
            raise torn(folder, f"{name} is missing")
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


def _placed(value: Any, like: Any) -> jax.Array:
    host = np.asarray(value, like.dtype)
    return jax.make_array_from_callback(host.shape, like.sharding, lambda index: host[index])


def _differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    return "; ".join(f"{key}: {old.get(key)} there, {new.get(key)} here" for key in new if old.get(key) != new[key])


def _read(folder: epath.Path, reader: Callable[[], Any]) -> Any:
    try:
        return reader()
    except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged file
        # All files are there, so the disk or the network may be the cause.
        raise torn(folder, reason_of(error), unless="if this persists, ") from error


def torn(folder: epath.Path, reason: str, unless: str = "") -> InputError:
    """Returns the error of a damaged checkpoint, which names what to remove, and the step that a run continues from."""
    if reason.startswith(manifest.NAME):
        return InputError(f"{folder} can't be checked ({reason}): remove {folder / manifest.NAME} to do without")
    before = [step for step in steps(folder.parent.parent) if step < int(folder.name)]
    remedy = f" to continue from step {before[-1]}" if before else "; there is no earlier one"
    return InputError(f"{folder} can't be read ({reason}): {unless}remove this folder{remedy}")


def reason_of(error: BaseException) -> str:
    """Returns in one line what made Orbax fail: its first cause, without TensorStore's description of the file."""
    while cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = cause
    if "No space left on device" in str(error):
        return "no space left on device"
    line = str(error).strip().split("\n")[0].split(" [tensorstore_spec")[0]
    return line[-200:] or type(error).__name__  # the end of TensorStore's messages says what happened
