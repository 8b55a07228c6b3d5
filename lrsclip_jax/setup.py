"""The set-up of a run, made once from its config by one function, for training and for planning alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from lrsclip_jax import parameter_rules
from lrsclip_jax.config import facts
from lrsclip_jax.data.batches.batch import BatchShape
from lrsclip_jax.data.prepared.records import KINDS
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.errors import InputError
from lrsclip_jax.flops import frozen_towers
from lrsclip_jax.models.clip import CLIP, init_params
from lrsclip_jax.optimizer import Optimizer, create, frozen_by
from lrsclip_jax.parameter_rules import path_of
from lrsclip_jax.sharding import HOST, check_divides, make_mesh
from lrsclip_jax.step import (
    StepOptions,
    TrainState,
    batch_layout,
    batch_specs,
    make_train_step,
    state_shapes,
    step_options,
)
from lrsclip_jax.weights import build_model


class RunLength(NamedTuple):
    """How long a run is: the data says it to training, and planning assumes it."""

    total_steps: int
    steps_per_epoch: float


@dataclass(frozen=True)
class Setup:
    """A run before its first step, with neither weights nor data.

    Attributes:
      config: of the run.
      length: of the run, on which the learning rate depends.
      mesh: the devices.
      model: without parameters.
      options: of the step.
      layout: of a batch.
      optimizer: made for the model's parameters.
      shapes: of the training state: a tree of jax.ShapeDtypeStruct with shardings.
    """

    config: ConfigDict
    length: RunLength
    mesh: Mesh
    model: CLIP
    options: StepOptions
    layout: BatchShape
    optimizer: Optimizer
    shapes: TrainState

    @property
    def text_lengths(self) -> dict[str, int]:
        """How many tokens a text of each kind, "long" and "short", may have."""
        return {kind: self.layout.length(kind) for kind in KINDS}

    def step(self, preprocessing: Preprocessing) -> jax.stages.Wrapped:
        """Returns the jitted train step, (state, batch) -> (state, metrics).

        Only mean and standard deviation of the pixels come with the weights.
        """
        return make_train_step(self.model, self.optimizer, preprocessing, self.options, self.shapes)

    def steps_left(self, done: int) -> range:
        """Returns the steps after the first `done`, the first step being 1; InputError if the run was shorter."""
        if done > self.length.total_steps:
            raise InputError(
                f"the newest checkpoint is of step {done}, the run ends after {self.length.total_steps}: raise epochs"
            )
        return range(done + 1, self.length.total_steps + 1)

    def batch_specs(self, rows: int | None = None, image_rows: int | None = None) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns shapes, dtypes and shardings of a batch; `rows` and `image_rows` are as for `step.batch_specs`."""
        return batch_specs(self.layout, self.model.image.size, self.mesh, rows, image_rows)


def set_up(
    config: ConfigDict,
    length: RunLength,
    *,
    devices: Sequence[jax.Device] | None = None,
    platform: str | None = None,
) -> Setup:
    """Returns the set-up that a config describes. It is built from shapes: nothing is computed, read or compiled.

    Args:
      config: of the run, which passed `lrsclip_jax.config.checks.check`.
      length: of the run.
      devices: all of the run, by default those of this machine and its processes. They need not exist.
      platform: whose default dtype the towers take, "cpu" or an accelerator; by default that of this process.

    Raises:
      InputError: for every config that can be refused without looking at weights or data.
    """
    mesh = make_mesh(config.mesh, devices)
    check_divides("batch_size", config.batch_size, mesh, config.train.microbatches)
    check_divides("eval.batch_size", config.eval.batch_size, mesh)
    if config.train.offload != "none":
        _check_memories(mesh.devices.flat[0])
    options = step_options(config, length.total_steps)
    model = build_model(config, platform)
    params = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
    if config.model.adapt:
        parameter_rules.selected(config.model.adapt_with, params, where="model.adapt_with")  # each matches something
    optimizer = create(
        config.optimizer,
        params,
        total_steps=length.total_steps,
        steps_per_epoch=length.steps_per_epoch,
        freeze=frozen_by(config),
    )
    _check_frozen(config, optimizer.trainable)
    return Setup(
        config=config,
        length=length,
        mesh=mesh,
        model=model,
        options=options,
        layout=batch_layout(config, mesh),
        optimizer=optimizer,
        shapes=state_shapes(
            params,
            optimizer,
            mesh,
            config.mesh.rules,
            ema=config.train.ema is not None,
            teacher=config.loss.preserve > 0,
            offload=facts.offloads(config, "optimizer"),
        ),
    )


def _check_memories(device: jax.Device) -> None:
    """Raises InputError for a device that no array of host memory can be next to."""
    kinds = [memory.kind for memory in device.addressable_memories()]
    if HOST not in kinds:
        raise InputError(
            f"train.offload needs a device with {HOST} memory, and JAX knows of a {device.device_kind} only "
            f"{', '.join(kinds)}: set train.offload='none'"
        )


def _check_frozen(config: ConfigDict, trainable: Any) -> None:
    """Raises InputError where a tower trains whose features come from memory, or none that patches are to train."""
    if config.loss.patches and "image" in frozen_towers(trainable):
        raise InputError(
            f"loss.patches={config.loss.patches} trains the image tower, of which "
            f"optimizer.freeze={config.optimizer.freeze} leaves nothing to train: set one of them alone"
        )
    for tower in facts.towers_in_memory(config):
        paths = [path_of(path) for path, trains in jax.tree.leaves_with_path(trainable[tower]) if trains]
        if learns := [path for path in paths if not path.startswith("projection/")]:
            raise InputError(
                f"data.{tower}_features are what a frozen tower gave, and {tower}/{learns[0]} is trained: "
                f"set optimizer.freeze=('{tower}/(?!projection).*',)"
            )


def run_length(config: ConfigDict, samples: int) -> RunLength:
    """Returns the length of a run whose sources hold `samples`; InputError as `facts.total_steps` has it."""
    return RunLength(facts.total_steps(config, samples), samples / config.batch_size)
