"""Primary components, values and gradients, against a float64 singular value decomposition."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from lrsclip_jax.errors import InputError
from lrsclip_jax.losses import principal_part, reduce_to_components


def value_and_slope(image, slope, components, scope="global"):
    """The reduced features, and the gradient of the sum of their products with `slope`."""
    features, pull = jax.vjp(lambda rows: reduce_to_components(rows, components, scope), image)
    return features, pull(slope)[0]


# Compiled once for each shape and number of components, and shared by the tests.
VALUE_AND_SLOPE = jax.jit(value_and_slope, static_argnums=(2, 3))


def unit_rows(seed, pairs, width, decay=1.5):
    """Features [pairs, width] around a common mean, whose components fall off by `decay`; and a slope for them."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(width, width)))[0]
    rows = (rng.normal(size=(pairs, width)) / decay ** np.arange(width)) @ rotation + rng.normal(size=width) / 4
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32), rng.normal(size=rows.shape).astype(np.float32)


def oracle(image, components):
    """What Long-CLIP's code computes, in float64."""
    image = np.float64(image)
    mean = image.mean(0)
    kept = np.linalg.svd(image - mean, full_matrices=False)[2][:components].T
    return mean + (image - mean) @ kept @ kept.T


def slope_of_oracle(image, slope, components, entry, step=1e-5):
    """The derivative by one entry of the image of the sum of the oracle's products with `slope`."""
    nudge = np.zeros(image.shape)
    nudge[entry] = step
    difference = oracle(image + nudge, components) - oracle(image - nudge, components)
    return (difference * slope).sum() / (2 * step)


def oracle_with_slope(image, slope, components):
    gradient = [slope_of_oracle(image, slope, components, entry) for entry in np.ndindex(image.shape)]
    return oracle(image, components), np.reshape(gradient, image.shape)


def assert_close(got, want):
    """Values to 1e-6 of the largest, gradients to 1e-5 of the largest."""
    for array, other, tolerance in zip(got, want, (1e-6, 1e-5), strict=True):
        assert np.abs(array - other).max() <= tolerance * np.abs(other).max()


# More pairs than dimensions, and fewer.
SHAPES = pytest.mark.parametrize("pairs, width", [(24, 8), (12, 16)])


@partial(jax.jit, static_argnums=2)
def part_and_slope(text, slope, wanted, valid=None):
    """The principal part of texts, and the gradient of the sum of its products with `slope`, where they are valid."""
    features, pull = jax.vjp(lambda rows: principal_part(rows, wanted, valid), text)
    return features, pull(slope if valid is None else jnp.where(valid[:, None], slope, 0))[0]


def directions_that_hold(share, rows):
    """How many of the largest variances hold a share of their sum; none of the partial sums is near that share."""
    variances = np.linalg.svd(np.float64(rows) - np.float64(rows).mean(0), compute_uv=False) ** 2
    shares = np.cumsum(variances) / variances.sum()
    assert np.abs(shares - share).min() > 1e-3
    return int((shares < share).sum()) + 1


@SHAPES
@pytest.mark.parametrize("share", [0.6, 0.9])
def test_a_share_of_the_variance_is_held_by_the_fewest_directions(pairs, width, share):
    """Equal to a decomposition in float64 with so many directions fixed: their number has no gradient."""
    text, slope = unit_rows(0, pairs, width)
    assert_close(part_and_slope(text, slope, share), oracle_with_slope(text, slope, directions_that_hold(share, text)))


@SHAPES
@pytest.mark.parametrize("wanted", [0.9, 3])
def test_absent_texts_have_no_part_in_the_components(pairs, width, wanted):
    text, slope = unit_rows(11, pairs, width)
    valid = np.arange(pairs) % 3 != 1
    count = directions_that_hold(wanted, text[valid]) if isinstance(wanted, float) else wanted
    features, gradient = part_and_slope(text, slope, wanted, valid)
    assert_close((features[valid], gradient[valid]), oracle_with_slope(text[valid], slope[valid], count))
    assert not gradient[~valid].any()


def test_texts_that_repeat_or_are_all_equal_or_absent_have_finite_parts():
    text, slope = unit_rows(12, 24, 8)
    some = text[np.arange(24) % 3]  # which vary in two directions
    features, gradient = part_and_slope(some, slope, 0.999)
    np.testing.assert_allclose(features, some, atol=1e-6)
    assert np.isfinite(gradient).all()
    for rows, valid in ((text[np.zeros(24, int)], np.ones(24, bool)), (text, np.zeros(24, bool))):
        features, gradient = part_and_slope(rows, slope, 0.9, valid)
        assert np.isfinite(features).all() and np.isfinite(gradient).all()
        np.testing.assert_allclose(features[valid], rows[valid], atol=1e-6)


@SHAPES
def test_as_many_directions_as_there_are_change_nothing(pairs, width):
    text, slope = unit_rows(13, pairs, width)
    features, gradient = part_and_slope(text, slope, 16)
    np.testing.assert_array_equal(features, text)
    np.testing.assert_array_equal(gradient, slope)


@SHAPES
@pytest.mark.parametrize("decay", [1.5, 1.1])
def test_equal_to_the_reference(pairs, width, decay):
    image, slope = unit_rows(0, pairs, width, decay)
    assert_close(VALUE_AND_SLOPE(image, slope, 3), oracle_with_slope(image, slope, 3))


def test_a_small_gap_costs_no_digits():
    """The 20th and 21st of 40 variances lie 4e-4 of the largest apart, which the rounding of `eigh` blurs."""
    image, slope = unit_rows(1, 128, 40, decay=1.2)
    features, gradient = VALUE_AND_SLOPE(image, slope, 20)
    entries = [tuple(entry) for entry in np.random.default_rng(0).integers(0, image.shape, (20, 2))]
    expected = np.array([slope_of_oracle(image, slope, 20, entry) for entry in entries])
    assert_close((features, np.array([gradient[entry] for entry in entries])), (oracle(image, 20), expected))


@SHAPES
@pytest.mark.parametrize("distinct", [6, 4])
def test_repeated_images_have_the_gradient_of_slightly_different_ones(pairs, width, distinct):
    """Three components are some of those of 6 distinct images, and all of those of 4."""
    image, slope = unit_rows(2, pairs, width)
    image = image[np.arange(pairs) % distinct]
    features, gradient = VALUE_AND_SLOPE(image, slope, 3)
    assert_close((features, gradient), oracle_with_slope(image, slope, 3))
    _, nearby = VALUE_AND_SLOPE(image + 1e-4 * unit_rows(3, pairs, width)[1], slope, 3)
    assert 0 < np.abs(nearby - gradient).max() < 0.01 * np.abs(gradient).max()


@SHAPES
def test_directions_without_variance_take_no_gradient(pairs, width):
    """Three distinct images vary in two directions. Which is the third to be kept is chance, and must not matter."""
    image, slope = unit_rows(4, pairs, width)
    image = image[np.arange(pairs) % 3]
    left, _, right = np.linalg.svd(image - np.float64(image).mean(0))
    left, empty = left[:, :2], right[2:].T
    centred = slope - np.float64(slope).mean(0)
    expected = slope - (centred - left @ left.T @ centred) @ empty @ empty.T
    assert_close(VALUE_AND_SLOPE(image, slope, 3), (image, expected))


def test_equal_images_stay_and_have_a_finite_gradient():
    image, slope = unit_rows(5, 24, 8)
    image = image[np.zeros(24, int)]
    features, gradient = VALUE_AND_SLOPE(image, slope, 3)
    np.testing.assert_allclose(features, image, atol=1e-6)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    "pairs, width, components, scope",
    [
        (24, 8, 8, "global"),
        (24, 8, 32, "global"),
        (33, 64, 32, "global"),
        (66, 64, 32, "group:33"),
        (1, 8, 1, "global"),
    ],
)
def test_identity_where_the_rank_allows_every_direction(pairs, width, components, scope):
    image, slope = unit_rows(6, pairs, width)
    features, gradient = VALUE_AND_SLOPE(image, slope, components, scope)
    np.testing.assert_array_equal(features, image)
    np.testing.assert_array_equal(gradient, slope)


def test_neither_order_nor_signs_of_eigenvectors_matter(monkeypatch):
    image, slope = unit_rows(7, 24, 8)
    eigh = jnp.linalg.eigh

    def shuffled(matrix):
        variances, directions = eigh(matrix)
        order = np.array([3, 0, 4, 1, 2, 7, 5, 6])
        return variances[..., order], directions[..., order] * np.array([1, -1, -1, 1, -1, 1, -1, -1])

    monkeypatch.setattr(jnp.linalg, "eigh", shuffled)
    retraced = jax.jit(partial(value_and_slope, components=3))
    for rows in (image, image[np.arange(24) % 3]):
        assert_close(retraced(rows, slope), VALUE_AND_SLOPE(rows, slope, 3))


@pytest.mark.parametrize("width, size", [(8, 16), (20, 8)])
def test_groups_are_reduced_each_on_its_own(width, size):
    image, slope = unit_rows(8, 32, width)
    features, gradient = VALUE_AND_SLOPE(image, slope, 3, f"group:{size}")
    for group in np.split(np.arange(32), 32 // size):
        assert_close((features[group], gradient[group]), oracle_with_slope(image[group], slope[group], 3))


@pytest.mark.parametrize(
    "components, scope, message",
    [
        (-1, "global", "loss.pcm_components=-1: keep at least one"),
        (3, "gpu", "loss.pcm_scope='gpu' is neither 'global' nor 'group:N'"),
        (3, "group:0", "loss.pcm_scope='group:0' is neither"),
        (3, "group:-4", "loss.pcm_scope='group:-4' is neither"),
        (3, "group:9", "loss.pcm_scope='group:9': groups of 9 do not divide a batch of 24 pairs"),
    ],
)
def test_bad_options_are_one_line(components, scope, message):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        reduce_to_components(unit_rows(9, 24, 8)[0], components, scope)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_eight_devices_compute_the_same_and_gather_nothing():
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "8",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    subprocess.run([sys.executable, __file__], env=environment, check=True, timeout=300)


def on_eight_devices():
    mesh = jax.make_mesh((4, 2, 1), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    by_rows = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    image, slope = unit_rows(10, 64, 10)
    split = jax.device_put((image, slope), by_rows)
    # The components of all pairs, of those of two devices, and of half a device's.
    for scope, size, sent in (("global", 64, {"all-reduce"}), ("group:16", 16, {"all-reduce"}), ("group:4", 4, set())):
        program = VALUE_AND_SLOPE.lower(*split, 2, scope).compile()
        features, gradient = program(*split)
        assert features.sharding.is_equivalent_to(by_rows, 2) and gradient.sharding.is_equivalent_to(by_rows, 2)
        kinds = "all-gather|all-reduce|all-to-all|collective-broadcast|collective-permute|reduce-scatter"
        assert set(re.findall(rf" ({kinds})(?:-start)?\(", program.as_text())) == sent, scope
        for group in np.split(np.arange(64), 64 // size):
            expected = oracle_with_slope(image[group], slope[group], 2)
            assert_close((np.asarray(features)[group], np.asarray(gradient)[group]), expected)


if __name__ == "__main__":
    on_eight_devices()
