"""Our train step as `benchmarks.step` runs it: the real one of a recipe, on one device."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from benchmarks.programs import OURS, WEIGHTS, Job, Prepared, batch_of
from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING, Preprocessing
from lrsclip_jax.models.clip import CLIP
from lrsclip_jax.pytorch import layout
from lrsclip_jax.pytorch.families import huggingface
from lrsclip_jax.run import throughput
from lrsclip_jax.run.throughput import Throughput
from lrsclip_jax.setup import RunLength, set_up
from lrsclip_jax.sharding import to_devices
from lrsclip_jax.step import TrainState, initial_state
from lrsclip_jax.weights import build_model, initial_parameters

EPOCH = 1000  # steps of a nominal one, for the schedule


class Built(NamedTuple):
    """A train step, jitted, what makes its first state, the mesh of one device, and what rates are reckoned with."""

    step: Callable
    first_state: Callable[[], TrainState]
    mesh: Mesh
    throughput: Throughput


def build(config: ConfigDict, params: Any, preprocessing: Preprocessing) -> Built:
    """Builds what training builds of a config, for this process's first device."""
    setup = set_up(config, RunLength(EPOCH, EPOCH), devices=jax.devices()[:1])
    rates = throughput.of_run(config, setup.model, setup.optimizer.trainable, setup.mesh)
    first_state = functools.partial(initial_state, params, setup.optimizer, setup.shapes)
    return Built(setup.step(preprocessing), first_state, setup.mesh, rates)


class Ready(NamedTuple):
    """A compiled step with its first state and one batch on the device."""

    program: jax.stages.Compiled
    state: TrainState
    batch: dict[str, jax.Array]
    built: Built


def ready(job: Job, keys: Sequence[str], lap: Callable[[str], None] = lambda name: None) -> Ready:
    """Returns the step of a job under further overrides, from random weights; `lap` hears of each part that ends."""
    config = job.config(("model.init=random", *keys))
    model = build_model(config)
    built = build(config, *initial_parameters(model, config))
    state = jax.block_until_ready(built.first_state())
    lap("parameters")
    batch = batch_of(config, job.images(model.image.size), *job.texts(0, model.text.end_token))
    batch = jax.block_until_ready(to_devices(batch, built.mesh))
    lap("batch")
    lowered = built.step.lower(state, batch)
    lap("trace")
    program = lowered.compile()
    lap("compile")
    return Ready(program, state, batch, built)


def peak(program: jax.stages.Compiled) -> int:
    """Returns the bytes on the device while a program runs, as its compiler counts them."""
    analysis = program.memory_analysis()
    held = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return held + analysis.temp_size_in_bytes


class Side:
    """Our programs in the process that makes it: they take turns in updating one state."""

    def __init__(self, job: Job, rounds: int, folder: str | None):
        """`folder` holds the weights that PyTorch's side wrote; None: draws them."""
        self._job, self._rounds, self._folder = job, rounds, folder
        self._programs: dict[str, list[tuple[jax.stages.Compiled, dict[str, jax.Array]]]] = {}
        self._state: TrainState | None = None

    def device_name(self) -> str:
        return jax.devices()[0].device_kind

    def prepare(self, name: str) -> Prepared:
        """Begins with the first weights, compiles a program for the shapes of all its batches, and runs each once."""
        config = self._job.config((*OURS[name], "model.init=random"))
        model = build_model(config)
        params = self._params(model, config)
        built = build(config, params, CLIP_PREPROCESSING)
        self._state = None  # its memory, before the next
        self._state = built.first_state()
        images = self._job.images(model.image.size)
        compiled, seconds = {}, 0.0
        self._programs[name] = []
        for index in range(self._rounds):
            batch = batch_of(config, images, *self._job.texts(index, model.text.end_token))
            batch = to_devices(batch, built.mesh)
            shapes = tuple(value.shape for value in batch.values())
            if shapes not in compiled:
                begun = time.perf_counter()
                compiled[shapes] = built.step.lower(self._state, batch).compile()
                seconds += time.perf_counter() - begun
            self._programs[name].append((compiled[shapes], batch))
        losses = [self._run(name, index)["loss"].item() for index in range(self._rounds)]
        return Prepared(losses[0], seconds, max(map(peak, compiled.values())))

    def _params(self, model: CLIP, config: ConfigDict) -> Any:
        if self._folder is None:
            return initial_parameters(model, config)[0]
        with np.load(Path(self._folder, WEIGHTS)) as tensors:
            return layout.to_ours(huggingface.table(), layout.shapes(model), tensors)

    def _run(self, name: str, index: int) -> jax.Array:
        program, batch = self._programs[name][index]
        self._state, metrics = program(self._state, batch)
        return metrics

    def seconds(self, name: str, index: int, steps: int) -> float:
        """Returns how long `steps` steps with batch `index` take."""
        begun = time.perf_counter()
        for _ in range(steps):
            self._run(name, index)
        jax.block_until_ready(self._state)
        return time.perf_counter() - begun
