"""Checkpoints of a run, written by Orbax: parameters and optimizer state, with what is needed to use them.

`WORKDIR/checkpoints/STEP/` holds two trees, `params` (so that an evaluation reads no optimizer state) and
`optimizer`, and JSON: step, config, preprocessing, tokenizer. A checkpoint appears under its name only once it is
complete, so the newest name is the newest complete one, whenever the process was killed. The data position needs no
file of its own: a batch is a function of (seed, step).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath
from ml_collections import ConfigDict
from orbax.checkpoint import v1 as ocp

from lrsclip_jax.data.images import Preprocessing
from lrsclip_jax.data.tokenizer import Tokenizer
from lrsclip_jax.errors import InputError
from lrsclip_jax.rules import path_of
from lrsclip_jax.step import TrainState
from lrsclip_jax.workdir import CHECKPOINTS, folder_of, steps

# Orbax logs a failure with its traceback from each of its threads, and raises it besides.
logging.getLogger("absl").setLevel(logging.CRITICAL)


def open_checkpoints(run: epath.Path, keep: int) -> ocp.training.Checkpointer:
    """Opens the checkpoints of a run folder; the newest `keep` stay, remains of killed saves are removed."""
    return ocp.training.Checkpointer(
        run / CHECKPOINTS,
        # When to save is the loop's business: it counts steps and minutes.
        save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
        preservation_policy=ocp.training.preservation_policies.LatestN(keep),
        cleanup_tmp_directories=True,
    )


def metadata(config: ConfigDict, preprocessing: Preprocessing, tokenizer: Tokenizer) -> dict[str, Any]:
    """Returns what a checkpoint says of itself, as JSON values."""
    return {
        "config": config.to_dict(),
        "preprocessing": dataclasses.asdict(preprocessing),
        "tokenizer": {"name": tokenizer.name, "hash": tokenizer.hash},
    }


def save(checkpoints: ocp.training.Checkpointer, state: TrainState, step: int, about: dict[str, Any]) -> None:
    """Writes `state` in the background, after waiting for a save still under way.

    Raises InputError if that one, or the beginning of this one, failed (a full disk); earlier checkpoints are intact.
    """
    trees = {"params": state.params, "optimizer": state.opt_state}
    with _failure_named(checkpoints):
        checkpoints.save_checkpointables_async(step, trees, custom_metadata=about | {"step": step})


def close(checkpoints: ocp.training.Checkpointer) -> None:
    """Waits for the last save; raises InputError if it failed."""
    with _failure_named(checkpoints):
        checkpoints.close()


def restore(checkpoints: ocp.training.Checkpointer, state: TrainState) -> TrainState:
    """Returns the newest checkpoint with the shardings of `state`, or `state` itself if there is none.

    Raises InputError if the checkpoint holds another model's arrays, or can't be read.
    """
    newest = checkpoints.latest
    if newest is None:
        return state
    trees = _load(checkpoints.directory / str(newest.step), {"params": state.params, "optimizer": state.opt_state})
    step = jax.device_put(jnp.full_like(state.step, newest.step), state.step.sharding)
    return TrainState(step=step, params=trees["params"], opt_state=trees["optimizer"])


def find(source: str) -> epath.Path | None:
    """Returns the checkpoint folder that `source` means, a run folder's newest or itself; None if it is neither."""
    folder = folder_of(source)
    if (folder / "params").exists() and folder.name.isdigit():
        return folder
    saved = steps(folder)
    return folder / CHECKPOINTS / str(saved[-1]) if saved else None


def load_params(folder: epath.Path, like: Any) -> Any:
    """Returns the parameters of one checkpoint, shaped and sharded as the tree `like` (of arrays or their shapes)."""
    return _load(folder, {"params": like})["params"]


def read_metadata(folder: epath.Path) -> dict[str, Any]:
    """Returns what `metadata` gave to a checkpoint, and its `step`."""
    return ocp.checkpointables_metadata(folder).custom_metadata


def _load(folder: epath.Path, trees: dict[str, Any]) -> dict[str, Any]:
    try:
        saved = ocp.checkpointables_metadata(folder).metadata["params"]
        _check_shapes(folder, saved, trees["params"])
        return ocp.load_checkpointables(folder, jax.tree.map(_abstract, trees))
    except InputError:
        raise
    except Exception as error:  # Orbax and TensorStore raise many kinds for a torn file
        raise InputError(f"{folder} can't be read ({_first_line(error)}): remove it to use the one before") from error


def _check_shapes(folder: epath.Path, saved: Any, expected: Any) -> None:
    found, wanted = (
        {path_of(path): tuple(leaf.shape) for path, leaf in jax.tree.leaves_with_path(tree)}
        for tree in (saved, expected)
    )
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise InputError(
                f"{folder} is torn or holds another model: {name} is {found.get(name, 'absent')} there, "
                f"{wanted.get(name, 'absent')} here"
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
            f"can't write a checkpoint to {checkpoints.directory} ({_first_line(error)}); earlier ones are intact"
        ) from error


def _first_line(error: Exception) -> str:
    if "No space left on device" in str(error):
        return "no space left on device"
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
