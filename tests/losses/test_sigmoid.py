"""The sigmoid loss, values and gradients, against a float64 oracle and against what open_clip computes."""

from __future__ import annotations

import math
from functools import partial

import jax
import numpy as np
import pytest
from jax.sharding import AxisType
from test_losses import assert_close, unit_rows

from lrsclip_jax import config as configs
from lrsclip_jax import losses
from lrsclip_jax.errors import InputError
from lrsclip_jax.losses import LossOptions, Texts
from lrsclip_jax.models.clip import init_params
from lrsclip_jax.sharding import AXES
from lrsclip_jax.weights import build_model

LOGITS = pytest.mark.parametrize(("scale", "bias"), [(10.0, -10.0), (100.0, -18.0)])


@partial(jax.jit, static_argnames="form")
def value_and_gradients(image, text, scale, bias, valid=None, keys=None, *, form="full"):
    """The loss of one term in any form, in uneven chunks, with its gradients to features, scale and bias."""
    mesh = jax.make_mesh((1, 1, 1), AXES, axis_types=(AxisType.Auto,) * 3, devices=jax.devices()[:1])
    ignore = "negative" if keys is None else "ignore"
    options = LossOptions(long_weight=1, form=form, chunk=7, name="sigmoid", same_text=ignore)

    def loss(image, text, scale, bias):
        texts = {"long": Texts(text, valid, keys)}
        return losses.dual_loss(image, texts, scale, options, logit_bias=bias, mesh=mesh)

    (value, metrics), gradients = jax.value_and_grad(loss, (0, 1, 2, 3), has_aux=True)(image, text, scale, bias)
    return (value, gradients), metrics


def sigmoid_oracle(image, text, scale, bias, *, valid=None, equal=None, same=None):
    """The loss in float64, with its gradients to image, text, scale and bias."""
    image, text = np.float64(image), np.float64(text)
    own = np.eye(len(image), dtype=bool)
    valid = np.ones(len(image), bool) if valid is None else valid
    positive = own if same is None else own | same
    counted = np.outer(valid, valid) & (positive | (True if equal is None else ~equal))
    sign = np.where(positive, 1, -1)
    cosines = image @ text.T
    logits = scale * cosines + bias
    pairs = max(valid.sum(), 1)
    value = (counted * np.logaddexp(0, -sign * logits)).sum() / pairs
    slope = counted * -sign * np.exp(-np.logaddexp(0, sign * logits)) / pairs
    return value, (scale * slope @ text, scale * slope.T @ image, (slope * cosines).sum(), slope.sum())


@LOGITS
def test_it_is_the_loss_of_open_clip(scale, bias):
    """`SigLipLoss` on one process: −Σ logsigmoid(labels · logits) / B, with labels 2·I − 1."""
    torch = pytest.importorskip("torch")
    image, text = unit_rows(0)
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (image, text, scale, bias)]
    v, t, s, b = leaves
    labels = 2 * torch.eye(len(image), dtype=torch.float64) - torch.ones(len(image), len(image))
    value = -torch.nn.functional.logsigmoid(labels * (s * v @ t.T + b)).sum() / len(image)
    value.backward()
    expected = value.item(), [leaf.grad.numpy() for leaf in leaves]
    assert_close(value_and_gradients(image, text, scale, bias)[0], expected)
    assert_close((value.item(), expected[1]), sigmoid_oracle(image, text, scale, bias))


@LOGITS
@pytest.mark.parametrize("form", ["full", "gather", "ring"])
def test_absent_texts_drop_out_and_equal_ones_count_for_nothing(form, scale, bias):
    image, text = unit_rows(1)
    rng = np.random.default_rng(1)
    ids, valid = rng.integers(0, 9, (len(text), 1)), rng.random(len(text)) < 0.7
    got, metrics = value_and_gradients(image, text, scale, bias, valid, losses.text_keys(ids), form=form)
    assert_close(got, sigmoid_oracle(image, text, scale, bias, valid=valid, equal=ids == ids.T))
    rivals = np.where(np.outer(valid, valid) & (ids != ids.T), image @ text.T, -1).max(1)
    np.testing.assert_allclose(metrics["accuracy_long"], ((image * text).sum(1) > rivals)[valid].mean(), rtol=1e-6)
    got, _ = value_and_gradients(image, text, scale, bias, np.zeros(24, bool), losses.text_keys(ids), form=form)
    assert got[0] == 0 and not any(np.asarray(gradient).any() for gradient in got[1])


@pytest.mark.parametrize("form", ["full", "gather", "ring"])
def test_a_feature_that_is_no_number_shows_in_the_sigmoid_loss(form):
    image, text = unit_rows(4)
    keys = losses.text_keys(np.arange(24)[:, None])
    image[5, 3] = np.nan
    (value, gradients), _ = value_and_gradients(image, text, 10.0, -10.0, np.ones(24, bool), keys, form=form)
    assert np.isnan(value) and all(np.isnan(gradient).any() for gradient in gradients)


def test_the_plain_form_is_that_of_the_model():
    image, text = unit_rows(2)
    keys = np.random.default_rng(2).integers(0, 10, (24, 1)).astype(np.uint32)
    value, _ = losses.sigmoid_loss(image, text, 10.0, -10.0, image_keys=keys)
    np.testing.assert_allclose(value, sigmoid_oracle(image, text, 10.0, -10.0, same=keys == keys.T)[0], rtol=1e-6)
    value, accuracy = losses.sigmoid_loss(image, text, 10.0, -10.0)
    (expected, _), metrics = value_and_gradients(image, text, 10.0, -10.0)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert accuracy == metrics["accuracy_long"] and metrics["logit_bias"] == -10


def small(*overrides):
    tiny = ("model.image.layers=1", "model.text.layers=1", "data.sources=scenes:8:0")
    return configs.load("configs/quickstart.py", [*tiny, *overrides])


def test_a_model_has_a_bias_with_the_sigmoid_loss_alone():
    plain, sigmoid = (build_model(small(f"loss.name={name}")) for name in ("info_nce", "sigmoid"))
    shapes = jax.eval_shape(lambda: init_params(plain, jax.random.key(0)))
    assert set(shapes) == {"image", "text", "logit_scale"}

    def draw():
        params = init_params(sigmoid, jax.random.key(0))
        return {name: value for name, value in params.items() if name not in ("image", "text")}

    params = jax.jit(draw)()
    assert set(params) == {"logit_scale", "logit_bias"} and params["logit_bias"] == -10
    np.testing.assert_allclose(params["logit_scale"], math.log(10), rtol=1e-6)
    assert build_model(small("loss.name=sigmoid", "loss.sigmoid_bias=-5.5")).logit_bias == -5.5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.label_smoothing=0.1", "loss.label_smoothing=0.1: the sigmoid loss has none, set it to 0"),
        ("loss.gradient=reference", "loss.gradient='reference': LRSCLIP's code has no sigmoid loss"),
        ("loss.temperature=0.05", "loss.temperature=0.05: the sigmoid loss starts from loss.sigmoid_temperature"),
        ("loss.name=siglip", "loss.name=siglip: expected 'info_nce' or 'sigmoid', did you mean"),
        ("loss.sigmoid_bias=x", "loss.sigmoid_bias=x: expected a number from -10000 to 10000"),
    ],
)
def test_what_the_sigmoid_loss_has_not_is_one_clear_line(override, message):
    with pytest.raises(InputError, match=message) as caught:
        small("loss.name=sigmoid", override)
    assert "\n" not in str(caught.value)
