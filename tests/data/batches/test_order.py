import grain
import numpy as np
import pytest

from lrsclip_jax.data.batches.order import Order


def by_grain(lengths, weights, seed) -> grain.MapDataset:
    """(source, record, first random number) of every position, by Grain's own data sets."""

    def stream(source, length):
        numbers = grain.MapDataset.source(range(length)).seed(seed + source).shuffle().repeat()
        return numbers.random_map(lambda number, rng: (source, number, rng.random()))

    return grain.MapDataset.mix([stream(*each) for each in enumerate(lengths)], weights)


@pytest.mark.parametrize("seed", [0, 3, 4_000_000_000])
@pytest.mark.parametrize(
    ("lengths", "weights"),
    [((70_000,), (1.0,)), ((400, 300), (2.0, 1.0)), ((500, 70_001, 300), (1.0, 0.125, 0.7)), ((200, 300), (1.0, 1.0))],
)
def test_it_is_grains(lengths, weights, seed):
    expected, order = by_grain(lengths, weights, seed), Order(lengths, weights, seed)
    positions = np.r_[0:300, 1_000:1_050, 70_000 * 5 - 25 : 70_000 * 5 + 25, 10**12 : 10**12 + 20]
    found = order.places(positions)
    for position, source, record, turn in zip(positions.tolist(), *(each.tolist() for each in found), strict=True):
        number = order.generator(source, turn).random()
        assert (source, record, number) == tuple(expected[position]), position


def test_every_record_has_its_turn_once_an_epoch():
    order = Order((30, 10), (3.0, 1.0), seed=1)
    source, record, turn = order.places(np.arange(80).reshape(2, 40))
    for epoch in range(2):
        assert sorted(record[epoch][source[epoch] == 0].tolist()) == list(range(30))
        assert sorted(record[epoch][source[epoch] == 1].tolist()) == list(range(10))
    assert (record[0] != record[1]).any()
    assert sorted(turn[source == 0].tolist()) == list(range(60))
