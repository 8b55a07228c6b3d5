"""Keyed draws: the same numbers on every machine, whatever else was drawn."""

from __future__ import annotations

import numpy as np

from lrsclip_jax.data.draws import between, pick, shuffled, stream

GOLDEN = [0.30931491118583454, 0.3569562367935075, 0.036904530468356844]


def test_streams_are_pinned():
    """Sets drawn today must be drawn again by any later version of NumPy."""
    np.testing.assert_array_equal(stream(1, 2).random(3), GOLDEN)
    np.testing.assert_array_equal(stream(1, 2).random(3), GOLDEN)


def test_streams_are_independent():
    keys = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 2**62, 0), (2**62, 0, 0)]
    draws = np.array([stream(*key).random(2000) for key in keys])
    correlation = np.corrcoef(draws) - np.eye(len(keys))
    assert np.abs(correlation).max() < 0.1


def test_draws_cover_their_range_evenly():
    rng = stream(0, 0)
    counts = np.bincount([pick(rng, (0, 1, 2, 3)) for _ in range(4000)])
    assert len(counts) == 4 and counts.min() > 900
    values = [between(rng, -2.0, 3.0) for _ in range(4000)]
    assert -2 <= min(values) < -1.95 and 2.95 < max(values) < 3
    orders = [tuple(shuffled(rng, "abc")) for _ in range(1200)]
    assert len(set(orders)) == 6 and min(orders.count(order) for order in set(orders)) > 140
