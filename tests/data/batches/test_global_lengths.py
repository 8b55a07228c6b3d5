import numpy as np
import pytest
from grain.experimental import index_shuffle

from lrsclip_jax.data.batches.global_lengths import places_at, shuffled_indices
from lrsclip_jax.data.batches.order import endless_order


@pytest.mark.parametrize("length", [1, 2, 3, 10, 4096, 65_536, 65_538, 131_073, 2_019_999, 9_686_720, 2**31 - 1])
@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_arrays_are_shuffled_as_grain_shuffles_one_index(length, seed):
    indices = np.unique(np.linspace(0, length - 1, 500).astype(np.int64))
    expected = [index_shuffle(int(index), length - 1, seed, 4) for index in indices]
    np.testing.assert_array_equal(shuffled_indices(indices, length, seed), expected)


@pytest.mark.parametrize("length", [2, 10_007, 65_537])  # the last is one that Grain doesn't permute
def test_shuffled_indices_are_a_permutation(length):
    found = shuffled_indices(np.arange(length), length, seed=5)
    np.testing.assert_array_equal(np.sort(found), np.arange(length))
    assert length == 2 or abs(np.corrcoef(found, np.arange(length))[0, 1]) < 0.03


@pytest.mark.parametrize("seed", [0, 2**32 + 5])
@pytest.mark.parametrize(
    ("lengths", "weights"),
    [((400, 300), (2.0, 1.0)), ((500, 70_001, 300), (1.0, 0.125, 0.7)), ((65_537, 262_145), (1.0, 1.0))],
)
def test_arrays_of_positions_have_the_places_of_the_order(lengths, weights, seed):
    order = endless_order(lengths, weights, seed)
    ends = (100, 2 * 65_537, 5 * 262_145, 10**12)  # of epochs, some of them
    positions = np.concatenate([np.arange(end - 100, end + 100) for end in ends])
    found = places_at(positions, lengths, weights, seed)
    expected = [order[position] for position in positions.tolist()]
    np.testing.assert_array_equal(np.stack(found, axis=-1), expected)
