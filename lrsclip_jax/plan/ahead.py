"""The train step of a config, compiled for devices that may not exist here, without weights or data."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from lrsclip_jax import chips
from lrsclip_jax.config.checks import check
from lrsclip_jax.config.facts import total_steps, towers_in_memory
from lrsclip_jax.data.batches import mixture, text_kinds
from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING
from lrsclip_jax.errors import InputError
from lrsclip_jax.flops import Texts, frozen_towers, tokens
from lrsclip_jax.models.attention import untimed
from lrsclip_jax.models.clip import CLIP
from lrsclip_jax.models.resnet import ResNet
from lrsclip_jax.plan.accessed import accessed
from lrsclip_jax.plan.hlo import Collectives, collectives
from lrsclip_jax.plan.packed_shapes import PackedShapes, expected_shapes
from lrsclip_jax.plan.roofline import Job, Rows
from lrsclip_jax.setup import RunLength, Setup, set_up
from lrsclip_jax.sharding import HOST

# Steps in an assumed epoch: schedules need a number, and programs for different numbers have the same size.
_EPOCH = 1000


@dataclasses.dataclass(frozen=True)
class PlannedStep:
    """The train step of a set-up before it is compiled, and shapes with shardings of its batch.

    Texts that share rows make batches of several shapes; `batch` is the one that holds the most rows of `packed`.
    """

    setup: Setup
    batch: dict[str, jax.ShapeDtypeStruct]
    packed: PackedShapes | None

    def lower(self) -> jax.stages.Lowered:
        """Returns the step that would train, lowered for its devices."""
        image = self.setup.model.image
        preprocessing = dataclasses.replace(CLIP_PREPROCESSING, size=image.size)
        if image.bands:  # whose mean and std come with the data
            ones = (1.0,) * image.channels
            preprocessing = dataclasses.replace(preprocessing, mean=ones, std=ones, bands=image.bands)
        return self.setup.step(preprocessing).lower(self.setup.shapes, self.batch)


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
    """A compiled step: its memory, its collectives, and the bytes that a device reads and writes in its main memory.

    The last two are None where the program's text cannot be read.
    """

    memory: Memory
    collectives: list[Collectives] | None
    accessed: int | None


@dataclasses.dataclass(frozen=True)
class TooLarge:
    """A step that the compiler refused: the bytes that it needs on a device, and those that it may have."""

    wanted: int
    granted: int


def plan_step(config: ConfigDict, devices: Sequence[jax.Device], platform: str) -> PlannedStep:
    """Returns the step that training would compile, from shapes alone.

    Args:
      config: of the run.
      devices: to compile for.
      platform: whose default dtype the towers take, "cpu" or an accelerator.

    Raises:
      InputError: for everything that training would refuse, too.
    """
    check(config)
    config = _on_sources(config)
    setup = set_up(config, _nominal_length(config), devices=devices, platform=platform)
    packed = expected_shapes(setup) if config.data.packed else None
    return PlannedStep(setup, setup.batch_specs(max(packed.shares) if packed else None), packed)


def compile_step(planned: PlannedStep) -> Program | TooLarge:
    """Compiles the step. Seconds for a small model, minutes for a large one on many devices."""
    lowered = planned.lower()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if too_large := _refusal(str(error)):
            return too_large
        raise
    try:
        text = compiled.as_text()
    except jax.errors.JaxRuntimeError:  # a libtpu newer than this jaxlib, which does not know its instructions
        text = None
    if text is None:
        return Program(memory(compiled), None, None)
    return Program(memory(compiled), collectives(text), accessed(text))


def memory(compiled: jax.stages.Compiled) -> Memory:
    """Returns the bytes of a compiled step; InputError where its compiler does not say them."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        raise InputError("the compiler for these devices doesn't say how much memory a program takes")
    return Memory(
        arguments=analysis.argument_size_in_bytes,
        temporaries=analysis.temp_size_in_bytes,
        outputs=analysis.output_size_in_bytes,
        aliased=analysis.alias_size_in_bytes,
        program=analysis.generated_code_size_in_bytes,
    )


def memory_of(devices: Sequence) -> int:
    """Returns the bytes of a device: the runtime's or the chip's limit; CPU devices share the machine's memory."""
    if chip := chips.find(devices[0].device_kind):
        if devices[0].platform == "tpu":
            return chip.memory
    if stats := devices[0].memory_stats():
        return stats["bytes_limit"]
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // len(devices)


def donated(planned: PlannedStep, program: Program) -> Program:
    """Returns a program compiled for a CPU as if for an accelerator: its new state takes the place of the old one.

    Arrays in host memory, which a CPU's compiler counts as all others, do not count.
    """
    state, batch = host_bytes(planned.setup.shapes), host_bytes(planned.batch)
    found, outputs = program.memory, program.memory.outputs - state
    memory = dataclasses.replace(
        found,
        arguments=found.arguments - state - batch,
        outputs=outputs,
        aliased=min(device_bytes(planned.setup.shapes), outputs),
    )
    return dataclasses.replace(program, memory=memory)


def job(planned: PlannedStep) -> Job:
    """Returns the facts of the step from which its time is estimated."""
    setup, packed = planned.setup, planned.packed
    layout, kinds = setup.layout, setup.options.loss.texts
    if packed:
        per_pair = planned.batch["ids"].shape[0] / layout.batch_size
        rows = (Rows(packed.row_length, per_pair, len(kinds)),)
    else:
        rows = tuple(Rows(layout.length(kind)) for kind in kinds)
    learning = jax.tree.leaves(setup.shapes.params), jax.tree.leaves(setup.optimizer.trainable)
    return Job(
        model=_with_ways(setup, max(each.slots for each in rows)),
        rows=rows,
        texts=Texts(len(kinds), packed.tokens, packed.squares) if packed else None,
        batch_size=layout.batch_size,
        microbatches=setup.options.microbatches,
        loss=setup.options.loss.name,
        more_terms=setup.options.loss.more_terms,
        form=setup.options.loss.form,
        frozen=frozen_towers(setup.optimizer.trainable),
        in_memory=towers_in_memory(setup.config),
        teacher=setup.options.loss.preserve > 0,
        views=setup.options.loss.views,
        image_words=host_bytes(planned.batch),
        devices=setup.mesh.size,
        state_bytes=device_bytes(setup.shapes),
        hosted_bytes=host_bytes(setup.shapes),
        gradient_bytes=device_bytes([leaf for leaf, trains in zip(*learning, strict=True) if trains]),
    )


def _with_ways(setup: Setup, slots: int) -> CLIP:
    """Returns the model with the attention that is compiled in place of "auto"; `slots` are those of a text's row."""
    platform = setup.mesh.devices.flat[0].platform

    def named(tower: Any, length: int) -> Any:
        if isinstance(tower, ResNet) or tower.attention != "auto":
            return tower
        heads = tower.heads // setup.mesh.shape["tensor"]
        dtype, width = jnp.dtype(tower.dtype).name, tower.width // tower.heads
        return tower.clone(attention=untimed(platform, dtype, length, heads, width))

    model = setup.model
    return model.clone(image=named(model.image, tokens(model.image)), text=named(model.text, slots))


def device_bytes(shapes: Any) -> int:
    """Returns the bytes on one device of a tree of jax.ShapeDtypeStruct with shardings."""
    return _bytes(shapes, hosted=False)


def host_bytes(shapes: Any) -> int:
    """Returns the bytes of such a tree that lie in host memory for one device."""
    return _bytes(shapes, hosted=True)


def _bytes(shapes: Any, *, hosted: bool) -> int:
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(shapes)
        if (leaf.sharding.memory_kind == HOST) == hosted
    )


def _on_sources(config: ConfigDict) -> ConfigDict:
    """Returns the config of the run on `data.sources`, where these are here: planning needs no data."""
    try:
        sources = mixture.open_sources(config)
    except InputError:
        return config
    if not sources:
        return config
    total_steps(config, sum(len(records) for records, _ in sources))
    return text_kinds.for_sources(config, sources)[0]


def _nominal_length(config: ConfigDict) -> RunLength:
    warmup = math.ceil(config.optimizer.warmup_steps + config.optimizer.warmup_epochs * _EPOCH)
    return RunLength(_EPOCH + warmup, _EPOCH)


def _refusal(message: str) -> TooLarge | None:
    """Reads the TPU compiler's "… memory required … (144.06G) exceeds available HBM (15.75G)"."""
    if "RESOURCE_EXHAUSTED" not in message:
        return None
    sizes = re.findall(r"\(([\d.]+)([KMGT]?)\)", message.splitlines()[0])
    if len(sizes) < 2:
        return None
    wanted, granted = (int(float(number) * 1024 ** " KMGT".index(unit or " ")) for number, unit in sizes[:2])
    return TooLarge(wanted, granted)
