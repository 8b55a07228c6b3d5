"""Scores against rational arithmetic, also on the edge of rounding; best matches against sorting."""

from __future__ import annotations

import operator
from fractions import Fraction

import numpy as np
import pytest

from eval.errors import InputError
from eval.scores import best_matches, block_scores, pair_scores, read_rows


def inner_product(a, b):
    return sum(map(operator.mul, map(Fraction, a.tolist()), map(Fraction, b.tolist())), Fraction(0))


def rows_on_the_edge(count, dim=256, seed=0):
    """Pairs of rows whose inner products lie within 1e-20 of an odd half of 1e-7."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, count, dim)) / np.sqrt(dim)
    a[:, -3:], b[:, -3:] = 2.0**-5, 0
    a, b = (read_rows(rows, slice(None)) for rows in (a, b))
    for x, y in zip(a, b, strict=True):
        edge = Fraction(2 * round(inner_product(x, y) * 10**7) + 1, 2 * 10**7)
        for place in (-3, -2, -1):
            y[place] = np.float32((edge - inner_product(x, y)) * 2**5)
    return a, b


def test_scores_do_not_depend_on_the_order_of_summation():
    a, b = rows_on_the_edge(24)
    expected = np.rint([float(inner_product(x, y)) * 1e7 for x, y in zip(a, b, strict=True)])
    in_turn = np.rint((a * b).cumsum(axis=1)[:, -1] * 1e7)
    assert (in_turn != expected).any()
    np.testing.assert_array_equal(pair_scores(a, b), expected)
    np.testing.assert_array_equal(block_scores(a, b).diagonal(), expected)
    order = np.random.default_rng(1).permutation(a.shape[1])
    np.testing.assert_array_equal(block_scores(a[:7, order], b[:, order]), block_scores(a, b)[:7])


@pytest.mark.parametrize("dim", [1, 2, 37, 512])
def test_scores_round_to_seven_decimals(dim):
    rows = np.random.default_rng(dim).normal(size=(60, dim))
    rows = read_rows(rows / np.linalg.norm(rows, axis=1, keepdims=True), slice(None))
    np.testing.assert_array_equal(block_scores(rows[:20], rows[20:]), np.rint(rows[:20] @ rows[20:].T * 1e7))
    diagonal = block_scores(rows[:30], rows[30:]).diagonal()
    np.testing.assert_array_equal(pair_scores(rows[:30], rows[30:]), diagonal)


def test_best_matches_come_in_order_and_ties_by_row():
    rows = np.eye(4, dtype=np.float32)[np.random.default_rng(2).integers(4, size=70)]
    queries = np.array([[0.8, 0.6, 0, 0], [0, 0, 0.6, 0.8], [0.5, 0.5, 0.5, 0.5]], np.float32)
    found, scores = best_matches(queries, rows, k=30, block=11)
    table = np.round(queries.astype(np.float64) @ rows.T, 7)
    expected = np.array([sorted(range(70), key=lambda c, row=row: (-row[c], c))[:30] for row in table])
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(scores, np.take_along_axis(table, expected, axis=1), rtol=0, atol=1e-15)


def test_best_matches_of_a_small_gallery_are_all_of_it():
    assert best_matches(np.eye(3), np.eye(3)[:2], k=5)[0].tolist() == [[0, 1], [1, 0], [0, 1]]
    with pytest.raises(InputError, match="queries have 3 dimensions and candidates 2: embed both with"):
        best_matches(np.eye(3), np.eye(2))
