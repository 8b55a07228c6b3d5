"""Adapted runs: what trains, what a checkpoint holds, and that it is of no use on another base."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from lrsclip_jax import config as configs
from lrsclip_jax import weights
from lrsclip_jax.adapters import base
from lrsclip_jax.data.tokenizer import tokenizer_for
from lrsclip_jax.errors import InputError
from lrsclip_jax.models.clip import plain
from lrsclip_jax.parameter_rules import path_of
from lrsclip_jax.run import checkpoint, checkpoint_reader, workdir
from lrsclip_jax.setup import RunLength, Setup, set_up
from lrsclip_jax.step import TrainState, initial_state
from lrsclip_jax.train import train_and_evaluate
from tests import tiny_clip

PAIRS = 8
RULES = (("image/.*", "lora", 2, 4.0, 0.1), ("text/blocks", "unipelt", 2, 8, 2), (".*/mlp", "adapter", 8))
TINY = {"width": 16, "layers": 2, "heads": 2, "embed_dim": 8}
KEYS = {
    "batch_size": PAIRS,
    "model.image.patch": 16,
    "model.image.size": 32,
    "model.text.context_length": 77,
    "data.long_length": 20,
    "data.short_length": 9,
    "optimizer.learning_rate": 0.02,
    "optimizer.warmup_steps": 2,
    "log.tensorboard": False,
} | {f"model.{tower}.{key}": value for tower in ("image", "text") for key, value in TINY.items()}


def configured(init, **overrides):
    keys = KEYS | {"model.init": init} | {key.replace("__", "."): value for key, value in overrides.items()}
    return configs.load("configs/quickstart.py", [f"{key}={value}" for key, value in keys.items()])


def batches():
    rng = np.random.default_rng(0)

    def texts(length):
        ids = rng.integers(1, 40000, (PAIRS, length)).astype(np.int32)
        ids[np.arange(PAIRS), rng.integers(2, length, PAIRS)] = 49407
        return ids

    while True:
        yield {
            "image": rng.integers(0, 256, (PAIRS, 32, 32, 3), np.uint8),
            "long": texts(20),
            "short": texts(9),
            "has_long": np.ones(PAIRS, bool),
            "has_short": np.ones(PAIRS, bool),
        }


class Trained(NamedTuple):
    run: Any  # its folder
    about: dict[str, Any]
    setup: Setup
    start: Any
    states: list[TrainState]  # after 0, 100 and 101 steps


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Trained:
    """A run of 101 steps, saved after 100 of them."""
    folder = tmp_path_factory.mktemp("adapted")
    tiny_clip.clip_folder(folder / "base", tiny_clip.model(TINY | {"patch": 16}, TINY))
    decay = "((r'.*/mlp/adapter/.*', 0.5),)"  # rules speak of adapters, too
    config = configured(folder / "base", model__adapt=RULES, optimizer__decay_rules=decay)
    setup = set_up(config, RunLength(200, 100))
    start, preprocessing = weights.initial_parameters(setup.model, config)
    run = workdir.new(str(folder / "run"))
    workdir.write_config(run, config)
    about = checkpoint.metadata(config, preprocessing, tokenizer_for("transformer"), start)
    state, step, drawn = initial_state(start, setup.optimizer, setup.shapes), setup.step(preprocessing), batches()
    states = [state]
    for _ in range(100):
        state, metrics = step(state, next(drawn))
    with checkpoint.closing(checkpoints := checkpoint.open_checkpoints(run, config.checkpoint)):
        checkpoint.save(checkpoints, state, 100, about)
    assert metrics["finite"]
    return Trained(run, about, setup, start, [*states, state, step(state, next(drawn))[0]])


def named(tree):
    return {path_of(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}


def test_what_no_rule_names_is_untouched_to_the_bit_and_has_no_state(trained):
    before, after = named(trained.states[0].params), named(trained.states[1].params)
    moved = {path for path in before if (before[path] != after[path]).any()}
    expected = set(named(base.trained(trained.about, trained.states[0].params)))
    assert moved == expected and {"image/projection/kernel", "logit_scale"} < moved
    assert not any("/qkv/" in path or "embedding" in path for path in moved)
    learns = {path for path, trains in named(trained.setup.optimizer.trainable).items() if trains}
    assert learns == moved
    moments = sum(leaf.size for leaf in jax.tree.leaves(trained.states[1].opt_state) if leaf.ndim)
    assert moments == 2 * sum(before[path].size for path in moved - {"logit_scale"})


def test_a_checkpoint_holds_what_trains_and_the_name_and_hash_of_its_base(trained):
    folder = checkpoint_reader.find(str(trained.run))
    about = checkpoint_reader.read_metadata(folder)
    assert about["base"]["init"].endswith("/base") and len(about["base"]["sha256"]) == 64
    saved = named(checkpoint_reader.load_params(folder, base.trained(about, trained.setup.shapes.params)))
    assert set(saved) == set(named(base.trained(about, trained.start)))
    whole = sum(np.size(leaf) for leaf in jax.tree.leaves(trained.start)) * 4
    assert sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()) < whole / 5
    found = weights.read(str(trained.run))
    jax.tree.map(np.testing.assert_array_equal, found.params, jax.device_get(trained.states[1].params))
    assert found.text["adapt"] == trained.setup.model.text.adapt


def test_a_run_continues_to_the_bit(trained):
    config, setup = trained.setup.config, trained.setup
    start, preprocessing = weights.initial_parameters(setup.model, config)
    with checkpoint.closing(checkpoints := checkpoint.open_checkpoints(trained.run, config.checkpoint)):
        state = checkpoint_reader.restore(checkpoints, setup.shapes, trained.about, start)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), jax.device_get(trained.states[1]))
    drawn = batches()
    for _ in range(100):
        next(drawn)
    state, _ = setup.step(preprocessing)(state, next(drawn))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), jax.device_get(trained.states[2]))


def test_adapters_of_another_base_are_refused_in_one_line(trained, tmp_path):
    folder = trained.run / "checkpoints" / "100"
    about, config = json.loads(json.dumps(trained.about)), trained.setup.config
    other = jax.tree.map(lambda leaf: leaf + np.float32(1e-3), trained.start)
    about |= base.described(config, other)
    with checkpoint.closing(checkpoints := checkpoint.open_checkpoints(trained.run, config.checkpoint)):
        with pytest.raises(InputError, match=f"{folder} holds adapters of another base: they were trained on .*/base"):
            checkpoint_reader.restore(checkpoints, trained.setup.shapes, about, other)
        del about["base"]
        with pytest.raises(InputError, match="holds adapters, and by model.adapt this run has whole weights"):
            checkpoint_reader.restore(checkpoints, trained.setup.shapes, about, other)
    kept = trained.run.parent / "base"
    shutil.move(kept, tmp_path / "away")
    try:
        with pytest.raises(InputError, match="holds adapters, and their base can't be read: there is no"):
            weights.read(str(trained.run))
        tiny_clip.clip_folder(kept, tiny_clip.model(TINY | {"patch": 16}, TINY), seed=9)
        with pytest.raises(InputError, match="holds adapters of another base"):
            weights.read(str(trained.run))
    finally:
        shutil.rmtree(kept, ignore_errors=True)
        shutil.move(tmp_path / "away", kept)


def test_a_run_does_not_start_from_adapters_that_no_kernel_expresses(trained):
    with pytest.raises(InputError, match="has adapters in its image tower, which no plain model can express"):
        weights.initial_parameters(plain(trained.setup.model), configured(trained.run))


@pytest.mark.parametrize(
    ("adapt_with", "trains"),
    [("()", set()), ("('text/final_norm/scale',)", {"text/final_norm/scale"})],
)
def test_what_trains_with_the_adapters_is_said_by_one_key(trained, adapt_with, trains):
    config = configured(trained.run.parent / "base", model__adapt="(('.*','lora',2),)", model__adapt_with=adapt_with)
    setup = set_up(config, RunLength(4, 4))
    learns = {path for path, trains in named(setup.optimizer.trainable).items() if trains}
    assert {path for path in learns if "/lora_" not in path} == trains and len(learns) == 24 + len(trains)
    config = configured(trained.run.parent / "base", model__adapt="(('.*','lora',2),)", model__adapt_with="('txt/.*',)")
    with pytest.raises(InputError, match="model.adapt_with: 'txt/.*' matches no parameter"):
        set_up(config, RunLength(4, 4))


def test_bitfit_is_a_freezing_rule(trained):
    config = configured(trained.run.parent / "base", optimizer__freeze="('(image|text)/(?!projection).*(?<!/bias)',)")
    setup = set_up(config, RunLength(4, 4))
    learns = {path for path, trains in named(setup.optimizer.trainable).items() if trains}
    assert {path.rpartition("/")[2] for path in learns} == {"bias", "kernel", "logit_scale"}
    assert {path for path in learns if path.endswith("kernel")} == {"image/projection/kernel", "text/projection/kernel"}


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "more",
    [
        pytest.param({}, id="plain"),
        pytest.param({"train__ema": 0.5, "loss__preserve": 0.5}, id="averaged, preserved"),
    ],
)
def test_a_whole_run_interrupted_is_as_if_nothing_had_happened(trained, tmp_path, more):
    if "loss__preserve" in more:
        more = more | {"loss__preserve_teacher": trained.run.parent / "base"}
    keys = more | {
        "data__sources": "scenes:48:0",
        "epochs": 1.0,
        "eval__sources": "()",
        "optimizer__warmup_steps": 2,
        "checkpoint__every_steps": 2,
        "model__adapt": RULES,
        "data__packed": True,
        "data__row_length": 40,
    }
    config = configured(trained.run.parent / "base", **keys)
    train_and_evaluate(config, str(tmp_path / "whole"))
    train_and_evaluate(config, str(tmp_path / "part"))
    for step in ("6",):  # as a run that was killed after its step 4
        shutil.rmtree(tmp_path / "part" / "checkpoints" / step)
    train_and_evaluate(config, str(tmp_path / "part"))
    whole, part = (weights.read(str(tmp_path / name)).params for name in ("whole", "part"))
    jax.tree.map(np.testing.assert_array_equal, whole, part)
