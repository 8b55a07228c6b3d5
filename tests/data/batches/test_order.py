import grain
import pytest
from grain.experimental import index_shuffle

from lrsclip_jax.data.batches.order import endless_order, random_numbers


def by_grain(lengths, weights, seed) -> grain.MapDataset:
    """(source, record, first random number) of every position, by Grain's own seeds and draws."""

    def stream(source, length):
        numbers = grain.MapDataset.source(range(length)).seed(seed + source).shuffle().repeat()
        return numbers.random_map(lambda number, rng: (source, number, rng.random()))

    return grain.MapDataset.mix([stream(*each) for each in enumerate(lengths)], weights)


@pytest.mark.parametrize("seed", [0, 3, 4_000_000_000])
@pytest.mark.parametrize(
    ("lengths", "weights"),
    [((70_000,), (1.0,)), ((400, 300), (2.0, 1.0)), ((500, 70_001, 300), (1.0, 0.125, 0.7)), ((200, 300), (1.0, 1.0))],
)
def test_records_and_random_numbers_are_those_of_grains_own_seeds(lengths, weights, seed):
    expected, order = by_grain(lengths, weights, seed), endless_order(lengths, weights, seed)
    generators = random_numbers(len(lengths), seed)
    for start in (0, 1_000, 70_000 * 5 - 25, 10**12):
        for position in range(start, start + 60):
            place = order[position]
            rng = generators[place.source].acquire_rng(place.turn)
            assert (place.source, place.record, rng.random()) == tuple(expected[position]), position
            generators[place.source].release_rng(rng)


def test_every_record_has_its_turn_once_an_epoch():
    order = endless_order((30, 10), (3.0, 1.0), seed=1)
    epochs = [[order[position] for position in range(start, start + 40)] for start in (0, 40)]
    for epoch in epochs:
        assert sorted(place.record for place in epoch if place.source == 0) == list(range(30))
        assert sorted(place.record for place in epoch if place.source == 1) == list(range(10))
    assert [place.record for place in epochs[0]] != [place.record for place in epochs[1]]
    turns = [place.turn for epoch in epochs for place in epoch if place.source == 0]
    assert turns == list(range(60))


@pytest.mark.exhaustive
def test_grains_shuffle_loses_a_record_of_65537_and_ours_does_not():
    length = 4**8 + 1
    assert len({index_shuffle(index, max_index=length - 1, seed=5, rounds=4) for index in range(length)}) == length - 1
    by_grain = grain.MapDataset.range(length).shuffle(seed=5)
    assert len({by_grain[index] for index in range(length)}) == length - 1
    order = endless_order((length,), (1.0,), seed=5)
    for epoch in range(2):
        assert len({order[epoch * length + index].record for index in range(length)}) == length
    for other in (length - 1, length + 1):
        assert len({index_shuffle(index, max_index=other - 1, seed=5, rounds=4) for index in range(other)}) == other
