"""A training whose steps are timed, for programs in which several take turns."""

from __future__ import annotations

import contextlib
import time

import jax

from lrsclip_jax import config as configs
from lrsclip_jax.data.batches import mixture, text_kinds
from lrsclip_jax.data.batches.data_report import DataReport
from lrsclip_jax.data.tokenizer import tokenizer_for
from lrsclip_jax.models import zoo
from lrsclip_jax.run import saved_features
from lrsclip_jax.run.training_data import TrainingData, batches_on_devices
from lrsclip_jax.setup import run_length, set_up
from lrsclip_jax.step import initial_state
from lrsclip_jax.weights import initial_parameters


class TimedRun:
    """A run whose step is compiled.

    Attributes:
      setup: of the run.
      state: after the steps that it took.
      seconds: of each step but the first.
      losses: of each step.
    """

    def __init__(self, config: configs.ConfigDict, stack: contextlib.ExitStack):
        sources = mixture.open_sources(config)
        config, _ = text_kinds.for_sources(config, sources)
        self.setup = setup = set_up(config, run_length(config, sum(len(records) for records, _ in sources)))
        params, preprocessing = initial_parameters(setup.model, config)
        images = saved_features.of_images(config, setup.model, params, preprocessing, sources)
        texts = saved_features.of_texts(config, setup.model, params, sources)
        data = TrainingData(sources, tokenizer_for(zoo.text_kind(setup.model)), preprocessing, images, texts)
        on_devices = batches_on_devices(data, config, setup.layout, setup.mesh, DataReport(0), setup.steps_left(0))
        self._batches, self._step = stack.enter_context(on_devices), setup.step(preprocessing)
        self.state = initial_state(params, setup.optimizer, setup.shapes)
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self.steps(1)
        self.seconds.clear()

    def steps(self, count: int) -> None:
        """Takes some steps, one after the other; a turn begins with the batches that were made before it."""
        for _ in range(count):
            begun = time.perf_counter()
            self.state, metrics = self._step(self.state, next(self._batches))
            jax.block_until_ready(self.state)
            self.seconds.append(time.perf_counter() - begun)
            self.losses.append(float(metrics["loss"]))
