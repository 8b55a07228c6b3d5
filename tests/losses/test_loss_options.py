"""The options of the loss: checked where they are made, from a config, from JSON or by hand."""

import dataclasses
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from lrsclip_jax import config as configs
from lrsclip_jax import losses
from lrsclip_jax.errors import InputError
from lrsclip_jax.losses import LossOptions, loss_options
from lrsclip_jax.setup import RunLength, set_up
from lrsclip_jax.step import step_options


def test_every_option_is_the_config_key_of_its_name():
    config = configs.defaults()
    values = {
        "long_weight": 0.3,
        "label_smoothing": 0.1,
        "same_text": "ignore",
        "gradient": "reference",
        "pcm_components": 32,
        "pcm_scope": "group:8",
        "form": "ring",
        "chunk": 5,
        "max_scale": 100.0,
        "name": "info_nce",
        "same_image": "positive",
        "text_pca": 0.9,
        "text_pca_weight": 0.5,
        "rising": 0.5,
        "hard_negatives": 0.25,
        "preserve": 2.0,
        "preserve_kind": "similarity",
        "patches": 0.1,
    }
    assert set(values) == {field.name for field in dataclasses.fields(LossOptions)}
    # The other keys say with which temperature and bias a model begins, whether the temperature learns, who teaches.
    start = {"temperature", "learn_temperature", "sigmoid_temperature", "sigmoid_bias", "preserve_teacher"}
    assert set(config.loss) - set(values) == start
    with config.ignore_type():
        config.loss.update(values)
    assert dataclasses.asdict(loss_options(config.loss)) == values


def test_options_read_from_json_are_the_same_and_can_be_compared():
    config = configs.load("configs/quickstart.py", ["loss.long_weight=((0, 0.2), (100, 0.8))"])
    saved = ConfigDict(json.loads(configs.to_json(config)))
    options = loss_options(config.loss)
    assert options == loss_options(saved.loss) and hash(options) == hash(loss_options(saved.loss))
    assert options.long_weight == ((0, 0.2), (100, 0.8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"same_text": "ignored"}, "loss.same_text='ignored' .* did you mean 'ignore'"),
        ({"form": "gathered"}, "loss.form='gathered' .* did you mean 'gather'"),
        ({"gradient": "ref"}, "loss.gradient='ref' is not one of full, reference, did you mean 'reference'"),
        ({"chunk": -1}, "loss.chunk=-1 must be"),
        ({"name": "sigmoids"}, "loss.name='sigmoids' is not one of info_nce, sigmoid, did you mean 'sigmoid'"),
        ({"name": "sigmoid", "label_smoothing": 0.1}, "loss.label_smoothing=0.1: the sigmoid loss has none"),
        ({"name": "sigmoid", "gradient": "reference"}, "loss.gradient='reference': LRSCLIP's code has no sigmoid loss"),
        (
            {"text_pca": 0.9, "long_weight": 0},
            "loss.text_pca=0.9 needs long texts, and loss.long_weight=0 uses none",
        ),
        (
            {"rising": 0.5, "long_weight": 1},
            "loss.rising=0.5 needs long and short texts, and loss.long_weight=1 uses one kind",
        ),
        (
            {"hard_negatives": 0.5, "long_weight": 1},
            "loss.hard_negatives=0.5 needs short texts, and loss.long_weight=1 uses none",
        ),
        ({"long_weight": 1.5}, "loss.long_weight=1.5 must be a number from 0 to 1"),
    ],
    ids=str,
)
def test_a_bad_option_is_named(options, message):
    with pytest.raises(InputError, match=message):
        LossOptions(**options)


@pytest.mark.parametrize(
    ("long_weight", "kinds"),
    [
        (0.8, ("long", "short")),
        (1.0, ("long",)),
        (0, ("short",)),
        (((0, 0.0), (9, 1.0)), ("long", "short")),
        (((0, 1.0),), ("long", "short")),
    ],
)
def test_a_text_that_never_weighs_anything_is_not_looked_at(long_weight, kinds):
    assert LossOptions(long_weight).kinds == LossOptions(long_weight).texts == kinds
    if "short" in kinds:
        assert LossOptions(long_weight, hard_negatives=0.1).texts == (*kinds, "negative")


def test_long_weight_is_a_number_or_a_schedule():
    assert losses.long_weight_at(0.8, jnp.int32(5)) == 0.8
    assert isinstance(losses.long_weight_at(1.0, jnp.int32(5)), float)
    points = ((10, 0.2), (20, 0.8), (30, 0.5))
    weights = jax.jit(partial(losses.long_weight_at, points))(jnp.array([0, 10, 15, 20, 28, 99]))
    np.testing.assert_allclose(weights, [0.2, 0.2, 0.5, 0.8, 0.56, 0.5], rtol=1e-6)
    np.testing.assert_allclose(losses.long_weight_at([[0, 0.3]], 7), 0.3)


def test_breakpoints_in_shares_of_the_run_are_at_its_steps():
    shares = ((0, 1.0), (0.2, 1.0), (0.8, 0.2))  # one decimal point is enough
    resolved = losses.in_steps(shares, 50)
    found = [float(losses.long_weight_at(resolved, jnp.int32(step))) for step in range(50)]
    np.testing.assert_allclose(found, np.interp(np.arange(50) / 50, *zip(*shares, strict=True)), rtol=1e-6)
    for steps in (0.8, 1, ((0, 0.2), (10, 0.8)), ((0, 0.2), (1, 0.8))):
        assert losses.in_steps(steps, 50) == steps


def test_a_run_weighs_its_terms_by_shares_of_its_own_length():
    options = [f"loss.long_weight={shares}" for shares in ("((0.0, 1.0), (0.5, 0.2))", "((0.0, 1.0), (2, 0.2))")]
    config = configs.load("configs/quickstart.py", [*options[:1], "optimizer.warmup_steps=0"])
    saved = ConfigDict(json.loads(configs.to_json(config)))
    for steps in (10, 1000):
        expected = ((0.0, 1.0), (0.5 * steps, 0.2))
        assert step_options(config, steps).loss.long_weight == expected
        assert step_options(saved, steps).loss.long_weight == expected
        assert set_up(config, RunLength(steps, 5)).options.loss.long_weight == expected
    with pytest.raises(InputError, match="loss.long_weight=.*2, 0.2.*expected .*share of the run"):
        configs.load("configs/quickstart.py", options[1:])


@pytest.mark.parametrize("bad", [1.2, -0.1, (), ((0, 0.2), (0, 0.3)), ((0, 0.2, 1), (3, 0.2, 1)), "x", None])
def test_a_bad_long_weight_is_named(bad):
    with pytest.raises(InputError, match="loss.long_weight="):
        losses.long_weight_at(bad, 0)
