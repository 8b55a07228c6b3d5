"""Screening against exact scores: with products as wrong as they may be, on degenerate rows, on the host and in JAX."""

from __future__ import annotations

import sys
import tracemalloc

import numpy as np
import pytest

from eval import screening
from eval.errors import InputError
from eval.scores import block_scores, pair_scores
from eval.screening import jax_program, product_error, screen_for, standings


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def matching(count_a, count_b, dim, seed=0):
    """Rows of both sides, every b near an a, and as thresholds the scores of such pairs."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(count_a, dim)), rng.normal(size=(count_b, dim))
    a, b = unit(a), unit(b + a[np.arange(count_b) % count_a])
    with_b = np.arange(count_a) % count_b
    of_a = pair_scores(a.astype(np.float64), b[with_b].astype(np.float64))
    of_b = pair_scores(a[np.arange(count_b) % count_a].astype(np.float64), b.astype(np.float64))
    of_a[1::3] = np.inf
    return a, b, of_a, of_b


def exact(a, b, of_a, of_b):
    scores = block_scores(a.astype(np.float64), b.astype(np.float64))
    return [
        ((scores > of_a[:, None]).sum(1), (scores == of_a[:, None]).sum(1)),
        ((scores > of_b).sum(0), (scores == of_b).sum(0)),
    ]


@pytest.mark.parametrize("device", [None, "jax"])
@pytest.mark.parametrize("shape", [(300, 611, 256), (64, 8, 5), (1, 1, 3), (40, 333, 1)])
def test_counts_are_those_of_exact_scores(shape, device):
    case = matching(*shape)
    np.testing.assert_equal(standings(*case, screen_for(device)), exact(*case))


def test_products_as_wrong_as_the_bound_allows_change_nothing(monkeypatch):
    case = matching(200, 700, dim=256, seed=1)
    rng = np.random.default_rng(2)
    screened, wrong = screening._screened, []

    def disturbed(scores, band_a, band_b):
        noisy = scores + rng.choice([-0.9, 0.9], size=scores.shape).astype(np.float32) * product_error(256)
        wrong.append(np.count_nonzero((noisy * 1e7 > case[3]) != (scores * 1e7 > case[3])))
        return screened(noisy.astype(np.float32), band_a, band_b)

    monkeypatch.setattr(screening, "_screened", disturbed)
    np.testing.assert_equal(standings(*case, screen_for(None)), exact(*case))
    assert wrong[0] > 20  # scores that changed sides and had to be put right


def test_the_bound_holds_for_the_worst_order_of_summation():
    for dim in (3, 64, 512, 2048):
        a = unit(np.random.default_rng(dim).random((50, dim)))  # positive: the partial sums grow all along
        exactly = pair_scores(a.astype(np.float64), a[::-1].astype(np.float64)) / 1e7
        in_turn = np.cumsum(a * a[::-1], axis=1, dtype=np.float32)[:, -1]
        error = np.abs(in_turn - exactly).max()
        assert error <= product_error(dim) < 1.02 * (dim + 2) * 2**-24


@pytest.mark.parametrize("device", [None, "jax"])
def test_equal_rows_are_scored_by_block_and_not_by_pair(device, monkeypatch):
    row = unit(np.random.default_rng(3).normal(size=(1, 64)))
    score = pair_scores(row.astype(np.float64), row.astype(np.float64))
    case = row.repeat(400, axis=0), row.repeat(800, axis=0), score.repeat(400), score.repeat(800)
    screen = screen_for(device)
    screen(*case)  # what JAX compiles is not what is measured
    monkeypatch.setattr(screening, "pair_scores", None)
    tracemalloc.start()
    found = standings(*case, screen)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_equal(found, [([0] * 400, [800] * 400), ([0] * 800, [400] * 800)])
    assert peak < 40 * 400 * 800  # a few numbers a pair; its two rows would be a thousand bytes


def test_near_pairs_are_gathered_a_few_at_a_time(monkeypatch):
    case = matching(500, 1500, dim=128, seed=4)
    seen = []

    def counted(a, b):
        seen.append(len(a))
        return pair_scores(a, b)

    monkeypatch.setattr(screening, "pair_scores", counted)
    standings(*case, screen_for(None))
    assert len(seen) > 1 and max(seen) <= 1024 and sum(seen) < 0.01 * 500 * 1500


def test_jax_multiplies_in_full_float32():
    band = np.zeros(4, np.float32), np.zeros(4, np.float32)
    program = jax_program().lower(*np.zeros((2, 4, 8), np.float32), band, band).as_text()
    assert program.count("dot_general") == program.count("precision = [HIGHEST, HIGHEST]") == 1


def test_devices_that_are_not_there_are_named(monkeypatch):
    with pytest.raises(InputError, match="device is 'gpu', known: None for the host, 'jax' for JAX's default device"):
        screen_for("gpu")
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(InputError, match="device 'jax' needs JAX"):
        screen_for("jax")
