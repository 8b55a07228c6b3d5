"""Seconds of a training step with frozen towers in the loop, one from memory, both: `python -m benchmarks.frozen`."""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Sequence

import jax

from lrsclip_jax import config as configs
from lrsclip_jax.data.batches import mixture, text_kinds
from lrsclip_jax.data.batches.data_report import DataReport
from lrsclip_jax.data.tokenizer import tokenizer_for
from lrsclip_jax.errors import cli
from lrsclip_jax.models import zoo
from lrsclip_jax.run import saved_features
from lrsclip_jax.run.training_data import TrainingData, batches_on_devices
from lrsclip_jax.setup import run_length, set_up
from lrsclip_jax.step import initial_state
from lrsclip_jax.weights import initial_parameters


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frozen", description=__doc__)
    parser.add_argument("--config", required=True, help="a recipe that freezes both towers, see lrsclip train")
    parser.add_argument("--images", required=True, metavar="SET", help="lrsclip embed --features=encoder")
    parser.add_argument("--texts", required=True, metavar="SET", help="… --tower=text")
    parser.add_argument("--rounds", type=int, default=3, help="each form has its turn in each (%(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="of a turn (%(default)s)")
    options, options.overrides = parser.parse_known_args(arguments)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the seconds of a step in turns, the making of its batch included, and its first loss."""
    options = parse(arguments)
    forms = {
        "towers in the loop": (),
        "images from memory": (f"data.image_features={options.images}",),
        "texts from memory": (f"data.text_features={options.texts}",),
        "both from memory": (f"data.image_features={options.images}", f"data.text_features={options.texts}"),
    }
    with contextlib.ExitStack() as stack:
        overrides = configs.overrides_of(options.overrides)
        runs = {name: _Run(configs.load(options.config, (*overrides, *keys)), stack) for name, keys in forms.items()}
        for name in [*runs] * options.rounds:
            runs[name].steps(options.steps)
    base = statistics.median(next(iter(runs.values())).seconds)
    print("| towers | s a step, median (least) | times as fast | loss of the first step |\n|---|---:|---:|---:|")
    for name, run in runs.items():
        middle = statistics.median(run.seconds)
        print(f"| {name} | {middle:.4f} ({min(run.seconds):.4f}) | {base / middle:.1f} | {run.losses[0]:.8f} |")


class _Run:
    """A run whose step is compiled, and the seconds of its steps since; the first of them is not counted."""

    def __init__(self, config: configs.ConfigDict, stack: contextlib.ExitStack):
        sources = mixture.open_sources(config)
        config, _ = text_kinds.for_sources(config, sources)
        setup = set_up(config, run_length(config, sum(len(records) for records, _ in sources)))
        params, preprocessing = initial_parameters(setup.model, config)
        images = saved_features.of_images(config, setup.model, params, preprocessing, sources)
        texts = saved_features.of_texts(config, setup.model, params, sources)
        data = TrainingData(sources, tokenizer_for(zoo.text_kind(setup.model)), preprocessing, images, texts)
        on_devices = batches_on_devices(data, config, setup.layout, setup.mesh, DataReport(0), setup.steps_left(0))
        self._batches, self._step = stack.enter_context(on_devices), setup.step(preprocessing)
        self._state = initial_state(params, setup.optimizer, setup.shapes)
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self.steps(1)
        self.seconds.clear()

    def steps(self, count: int) -> None:
        """Takes some steps, one after the other; a turn begins with the batches that were made before it."""
        for _ in range(count):
            begun = time.perf_counter()
            self._state, metrics = self._step(self._state, next(self._batches))
            jax.block_until_ready(self._state)
            self.seconds.append(time.perf_counter() - begun)
            self.losses.append(float(metrics["loss"]))


if __name__ == "__main__":
    cli(main)
