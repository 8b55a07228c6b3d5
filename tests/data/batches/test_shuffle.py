import numpy as np
import pytest
from grain.experimental import index_shuffle as by_grain

from lrsclip_jax.data.batches.shuffle import index_shuffle


@pytest.mark.parametrize("length", [1, 2, 3, 10, 4096, 65_536, 65_538, 131_073, 2_019_999, 9_686_720, 2**31 - 1])
@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_it_equals_grains(length, seed):
    indices = np.unique(np.linspace(0, length - 1, 500).astype(np.int64))
    expected = [by_grain(int(index), length - 1, seed, 4) for index in indices]
    np.testing.assert_array_equal(index_shuffle(indices, length, seed), expected)


@pytest.mark.parametrize("length", [2, 10_007, 65_537])  # the last is one that Grain doesn't permute
def test_it_permutes(length):
    found = index_shuffle(np.arange(length), length, seed=5)
    np.testing.assert_array_equal(np.sort(found), np.arange(length))
    assert length == 2 or abs(np.corrcoef(found, np.arange(length))[0, 1]) < 0.03
