"""The train step of a config, compiled for devices that may not exist here, without weights or data."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from lrsclip_jax.config_checks import check, total_steps
from lrsclip_jax.data.batches.pipeline import open_sources
from lrsclip_jax.data.images import CLIP_PREPROCESSING
from lrsclip_jax.errors import InputError
from lrsclip_jax.flops import Texts, frozen_towers
from lrsclip_jax.losses import kinds_used
from lrsclip_jax.models.clip import CLIP, init_params
from lrsclip_jax.optimizer import create, frozen_by
from lrsclip_jax.plan.hlo import Collectives, collectives
from lrsclip_jax.plan.packed_shapes import PackedShapes, expected_shapes
from lrsclip_jax.plan.roofline import Job, Rows
from lrsclip_jax.sharding import check_divides, make_mesh
from lrsclip_jax.step import TrainState, batch_shapes, make_train_step, state_shapes
from lrsclip_jax.text_kinds import for_sources
from lrsclip_jax.weights import build_model

# Steps in a nominal epoch: schedules need a number, and programs for different numbers do not differ in size.
_EPOCH = 1000


@dataclasses.dataclass(frozen=True)
class Setup:
    """A step before it is compiled: the model, the mesh, and shapes with shardings of its arguments.

    Texts that share rows make batches of several shapes; `batch` is the one that holds the most rows of `packed`.
    """

    config: ConfigDict
    model: CLIP
    mesh: Mesh
    state: TrainState
    batch: dict[str, jax.ShapeDtypeStruct]
    trainable: Any
    step: Any
    packed: PackedShapes | None


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on one device while the step runs: `aliased` of the outputs take the place of arguments."""

    arguments: int
    temporaries: int
    outputs: int
    aliased: int
    program: int

    @property
    def peak(self) -> int:
        return self.arguments + self.temporaries + self.outputs - self.aliased + self.program


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled step: what it holds and what it sends; None where the program cannot be read."""

    memory: Memory
    collectives: list[Collectives] | None


@dataclasses.dataclass(frozen=True)
class TooLarge:
    """A step that the compiler refused: the bytes it wanted on a device, and those it may have."""

    wanted: int
    granted: int


def set_up(config: ConfigDict, devices: Sequence[jax.Device], platform: str) -> Setup:
    """Builds what training builds before its first step, from shapes alone.

    Args:
      config: of the run.
      devices: to compile for.
      platform: whose default dtype the towers take, "cpu" or an accelerator.

    Raises:
      InputError: for all that training would refuse, too.
    """
    check(config)
    config = _on_sources(config)
    mesh = make_mesh(config.mesh, devices)
    check_divides("batch_size", config.batch_size, mesh, config.train.microbatches)
    model = build_model(config, platform)
    params = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
    warmup = math.ceil(config.optimizer.warmup_steps + config.optimizer.warmup_epochs * _EPOCH)
    optimizer = create(
        config.optimizer, params, total_steps=_EPOCH + warmup, steps_per_epoch=_EPOCH, freeze=frozen_by(config)
    )
    state = state_shapes(params, optimizer, mesh, config.mesh.rules)
    preprocessing = dataclasses.replace(CLIP_PREPROCESSING, size=model.image.size)
    step = make_train_step(model, optimizer, preprocessing, config, state)
    packed = expected_shapes(config, model, mesh) if config.data.packed else None
    batch = batch_shapes(config, mesh, packed and max(packed.shares))
    return Setup(config, model, mesh, state, batch, optimizer.trainable, step, packed)


def _on_sources(config: ConfigDict) -> ConfigDict:
    """The config of the run on `data.sources`, where these are here: planning needs no data."""
    try:
        sources = open_sources(config)
    except InputError:
        return config
    if not sources:
        return config
    total_steps(config, sum(len(records) for records, _ in sources))
    return for_sources(config, sources)[0]


def compile_step(setup: Setup) -> Program | TooLarge:
    """Compiles the step. Seconds for a small model, minutes for a large one on many devices."""
    lowered = setup.step.lower(setup.state, setup.batch)
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if too_large := _refusal(str(error)):
            return too_large
        raise
    analysis = compiled.memory_analysis()
    memory = Memory(
        arguments=analysis.argument_size_in_bytes,
        temporaries=analysis.temp_size_in_bytes,
        outputs=analysis.output_size_in_bytes,
        aliased=analysis.alias_size_in_bytes,
        program=analysis.generated_code_size_in_bytes,
    )
    try:
        sent = collectives(compiled.as_text())
    except jax.errors.JaxRuntimeError:  # a libtpu newer than this jaxlib, which does not know its instructions
        sent = None
    return Program(memory, sent)


def donated(setup: Setup, program: Program) -> Program:
    """A program compiled for a CPU, where the step keeps its old state, as if the new one took its place."""
    aliased = min(device_bytes(setup.state), program.memory.outputs)
    return dataclasses.replace(program, memory=dataclasses.replace(program.memory, aliased=aliased))


def job(setup: Setup) -> Job:
    """Returns what the roofline must know of the step."""
    config = setup.config
    kinds = kinds_used(config.loss.long_weight)
    if setup.packed:
        per_pair = setup.batch["ids"].shape[0] / config.batch_size
        rows = (Rows(config.data.row_length, per_pair, len(kinds)),)
    else:
        lengths = {"long": config.data.long_length, "short": config.data.short_length}
        rows = tuple(Rows(lengths[kind]) for kind in kinds)
    return Job(
        model=setup.model,
        rows=rows,
        texts=setup.packed and Texts(len(kinds), setup.packed.tokens, setup.packed.squares),
        batch_size=config.batch_size,
        microbatches=config.train.microbatches,
        form=config.loss.form,
        frozen=frozen_towers(setup.trainable),
        devices=setup.mesh.size,
        state_bytes=device_bytes(setup.state),
        gradient_bytes=device_bytes(setup.state.params),
    )


def device_bytes(shapes: Any) -> int:
    """Returns the bytes on one device of a tree of jax.ShapeDtypeStruct with shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes)
    )


def _refusal(message: str) -> TooLarge | None:
    """Reads the TPU compiler's "… memory required … (144.06G) exceeds available HBM (15.75G)"."""
    if "RESOURCE_EXHAUSTED" not in message:
        return None
    sizes = re.findall(r"\(([\d.]+)([KMGT]?)\)", message.splitlines()[0])
    if len(sizes) < 2:
        return None
    wanted, granted = (int(float(number) * 1024 ** " KMGT".index(unit or " ")) for number, unit in sizes[:2])
    return TooLarge(wanted, granted)
