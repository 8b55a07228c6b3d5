"""The train step with the sigmoid loss: the same update of padded, packed and accumulated batches; the bias learns."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrsclip_jax import config as configs
from lrsclip_jax.data.batches.batch import packed, padded, text_lengths
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.fitting import fitted
from lrsclip_jax.models.clip import init_params
from lrsclip_jax.pytorch.contract import ReadCheckpoint
from lrsclip_jax.setup import RunLength, set_up
from lrsclip_jax.sharding import to_devices
from lrsclip_jax.step import initial_state

PAIRS = 8
TINY = {
    "image": {"size": 16, "patch": 8, "width": 16, "layers": 1, "heads": 2, "embed_dim": 8},
    "text": {"width": 16, "layers": 1, "heads": 2, "embed_dim": 8, "vocab_size": 60, "end_token": 59},
}


@functools.cache
def setup(*overrides):
    config = configs.load("configs/quickstart.py")
    with config.unlocked():
        for tower, fields in TINY.items():
            config.model[tower].update(fields)
        config.update({"batch_size": PAIRS, "data": {"long_length": 20, "short_length": 9, "row_length": 24}})
        config.model.text.context_length = 24
        config.optimizer.update({"name": "sgd", "learning_rate": 0.1, "warmup_steps": 0, "schedule": "constant"})
    for override in overrides:
        configs.set_value(config, *override.split("="))
    return set_up(config, RunLength(10, 5))


def texts():
    rng = np.random.default_rng(0)
    rows = {
        kind: [[58, *rng.integers(1, 58, rng.integers(1, length - 2)).tolist(), 59] for _ in range(PAIRS)]
        for kind, length in (("long", 20), ("short", 9))
    }
    rows["short"][3] = None
    return rows


@functools.cache
def start(model):
    return jax.device_get(jax.jit(lambda: init_params(model, jax.random.key(0)))())


def update(*overrides):
    """One update: the metrics, and the parameters before and after."""
    of = setup("loss.name=sigmoid", *overrides)
    params = start(of.model)
    state = initial_state(params, of.optimizer, of.shapes)
    if of.layout.row_length:
        batch = packed(texts(), of.layout, np.arange(PAIRS), text_lengths(texts()))
    else:
        batch = padded(texts(), of.layout, 0)
    batch["image"] = np.random.default_rng(1).integers(0, 256, (PAIRS, 16, 16, 3), np.uint8)
    step = of.step(Preprocessing(size=16, mean=(0.5,) * 3, std=(0.2,) * 3))
    state, metrics = step(state, to_devices(batch, of.mesh))
    return jax.device_get((metrics, params, state.params))


@pytest.mark.exhaustive
def test_packed_and_accumulated_batches_have_the_update_of_padded_ones():
    metrics, before, after = update()
    assert metrics["logit_bias"] == -10 and after["logit_bias"] != before["logit_bias"]
    assert after["logit_scale"] != before["logit_scale"]
    other, _, there = update("data.packed=True", "train.microbatches=2", "loss.form=ring")
    np.testing.assert_allclose(other["loss"], metrics["loss"], rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), there, after)


def test_weights_without_a_bias_start_from_that_of_the_config_and_keep_their_scale():
    model = setup("loss.name=sigmoid").model
    plain = setup().model
    params = start(plain) | {"logit_scale": np.float32(4.5)}
    fields = ({}, {})
    found = ReadCheckpoint("a family", params, *fields)
    begun = fitted(model, found, "a file")
    assert begun["logit_bias"] == np.float32(-10) and begun["logit_scale"] == np.float32(4.5)
    biased = fitted(model, ReadCheckpoint("a family", params | {"logit_bias": jnp.float32(-7)}, *fields), "a file")
    assert biased["logit_bias"] == -7
    assert "logit_bias" not in fitted(plain, ReadCheckpoint("a family", biased, *fields), "a file")
