import warnings

import numpy as np
import pytest

from lrsclip_jax.data.stretch import holds_data, limits, stretched
from lrsclip_jax.errors import InputError

KINDS = ["int8", "uint16", "int16", "uint32", "int32", "int64", "uint64", "float32", "float64"]


@pytest.mark.parametrize("kind", KINDS)
def test_limits_are_numpys_percentiles_of_float64_to_the_bit(kind):
    rng = np.random.default_rng(0)
    for _ in range(200):
        size, stretch = tuple(rng.integers(1, 40, 2)), tuple(np.sort(rng.uniform(0, 100, 2)))
        spread = 10.0 ** rng.integers(0, 19)
        if np.dtype(kind).kind == "f":
            values = (rng.normal(size=size) * spread).astype(kind)
        else:
            values = rng.integers(max(np.iinfo(kind).min, -spread), min(np.iinfo(kind).max, spread), size, kind)
        before = values.copy()
        assert limits(values, stretch, "x") == tuple(np.percentile(values.astype(np.float64), stretch))
        np.testing.assert_array_equal(values, before)


def test_masked_nan_and_infinite_values_are_left_out_and_become_zero():
    values = np.ma.masked_array([[np.nan, np.inf, -np.inf, 1.0, 2.0, 3.0, 900.0]], [[0, 0, 0, 0, 0, 0, 1]])
    assert limits(values, (0, 100), "x") == (1.0, 3.0)
    assert stretched(values, 1.0, 3.0).tolist() == [[0, 0, 0, 0, 128, 255, 0]]
    assert holds_data(values[None]).tolist() == [[False, False, False, True, True, True, False]]
    with pytest.raises(InputError, match="x: a band without a single valid pixel"):
        limits(np.full((2, 2), np.nan), (2, 98), "x")


@pytest.mark.parametrize(
    ("values", "low", "high", "expected"),
    [
        ([5, 5, 5], 5.0, 5.0, [0, 0, 0]),  # one value
        ([0, 0, 7], 0.0, 0.0, [0, 0, 255]),  # percentiles that coincide
        ([-9, 0, 7], 0.0, 0.0, [0, 0, 255]),
        ([0, 1, 2], 0.0, 5e-324, [0, 255, 255]),  # that almost coincide
        ([-1.7e308, 0, 1.7e308], -1.7e308, 1.7e308, [0, 128, 255]),  # the ends of float64
    ],
)
def test_limits_at_the_edges_of_arithmetic_give_no_warning(values, low, high, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert stretched(np.array([values]), low, high).tolist() == [expected]
        limits(np.array([values], np.float64), (2, 98), "x")


def test_large_bands_are_stretched_in_parts(monkeypatch):
    values = np.random.default_rng(0).integers(0, 9999, (50, 7)).astype(np.uint16)
    whole = stretched(values, 200.0, 9000.0)
    monkeypatch.setattr("lrsclip_jax.data.stretch._ROWS", 20)
    np.testing.assert_array_equal(stretched(values, 200.0, 9000.0), whole)
    np.testing.assert_array_equal(whole, np.rint(np.clip((values - 200.0) / 8800, 0, 1) * 255))
