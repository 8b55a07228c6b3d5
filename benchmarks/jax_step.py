"""Our train step as `benchmarks.step_speed` runs it: the real one of a recipe, on one device."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from benchmarks.program_count import OURS, Job, Prepared, batch_of
from lrsclip_jax.data.images import Preprocessing
from lrsclip_jax.optimizer import create, frozen_by
from lrsclip_jax.run import throughput
from lrsclip_jax.run.throughput import Throughput
from lrsclip_jax.sharding import make_mesh, to_devices
from lrsclip_jax.step import TrainState, initial_state, make_train_step, state_shapes
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
    mesh = make_mesh(config.mesh, jax.devices()[:1])
    model = build_model(config)
    optimizer = create(config.optimizer, params, total_steps=EPOCH, steps_per_epoch=EPOCH, freeze=frozen_by(config))
    shapes = state_shapes(params, optimizer, mesh, config.mesh.rules)
    step = make_train_step(model, optimizer, preprocessing, config, shapes)
    rates = throughput.of_run(config, model, optimizer.trainable, mesh)
    return Built(step, lambda: initial_state(params, optimizer, shapes), mesh, rates)


def peak(program: jax.stages.Compiled) -> int:
    """Returns the bytes on the device while a program runs, as its compiler counts them."""
    analysis = program.memory_analysis()
    held = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return held + analysis.temp_size_in_bytes


class Side:
    """Our programs in the process that makes it: they take turns in updating one state."""

    def __init__(self, job: Job, rounds: int, folder: str | None):
        """`folder` holds the weights that PyTorch's side wrote; None: draws them."""
        self._job, self._rounds, self._init = job, rounds, folder or "random"
        self._programs: dict[str, list[tuple[jax.stages.Compiled, dict[str, jax.Array]]]] = {}
        self._state: TrainState | None = None

    def device_name(self) -> str:
        return jax.devices()[0].device_kind

    def prepare(self, name: str) -> Prepared:
        """Begins with the first weights, compiles a program for the shapes of all its batches, and runs each once."""
        config = self._job.config((*OURS[name], f"model.init={self._init}"))
        model = build_model(config)
        params, preprocessing = initial_parameters(model, config)
        built = build(config, params, preprocessing)
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
