"""Neighbours against a full stable sort of exact scores, where many are equal or nearly so."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from eval.errors import InputError
from eval.probe import neighbours as module
from eval.probe.neighbours import SPARE, neighbours, numpy_screen, screen_of
from eval.screening import product_error


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def rows_of(count, dim, seed, distinct=None):
    rng = np.random.default_rng(seed)
    rows = unit(rng.normal(size=(distinct or count, dim)))
    return rows[rng.integers(len(rows), size=count)] if distinct else rows


def by_sorting(train, queries, k):
    scores = np.rint(queries.astype(np.float64) @ train.astype(np.float64).T * 1e7)
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(scores, rows, axis=1)


@pytest.fixture(params=["numpy", "faiss"])
def screen(request):
    if request.param == "numpy":
        return numpy_screen
    pytest.importorskip("faiss")
    return screen_of


@pytest.fixture(params=[11, 99])
def small_blocks(request, monkeypatch):
    """Blocks of 11 rows hold fewer than are kept, those of 99 three times as many, and both leave some over."""
    sizes = {"QUERIES_AT_A_TIME": 7, "ROWS_AT_A_TIME": request.param, "PAIRS_AT_A_TIME": 13, "GROUP": 3}
    for name, size in sizes.items():
        monkeypatch.setattr(module, name, size)


@pytest.mark.parametrize("distinct", [None, 40, 3, 1])
@pytest.mark.parametrize("k", [1, 5, 20])
def test_equal_to_a_full_sort(screen, small_blocks, distinct, k):
    """Copies tie exactly: 200 rows of 40, 3 and 1 different ones, more than `SPARE` of a kind."""
    train, queries = rows_of(200, 16, 0, distinct), rows_of(30, 16, 1)
    for mine, oracle in zip(neighbours(train, queries, k, screen(train)), by_sorting(train, queries, k), strict=True):
        np.testing.assert_array_equal(mine, oracle)


@pytest.mark.parametrize("count", [1, SPARE, SPARE + 1, 60])
def test_all_rows_are_neighbours(screen, count):
    train, queries = rows_of(count, 8, 2), rows_of(5, 8, 3)
    mine, scores = neighbours(train, queries, count, screen(train))
    np.testing.assert_array_equal(mine, by_sorting(train, queries, count)[0])
    assert (np.diff(scores, axis=1) <= 0).all()


def test_rows_that_float32_cannot_tell_apart(screen):
    """Similarities lie 1e-7 to 1e-6 apart, far below the bound of a float32 product of 512 terms."""
    rng = np.random.default_rng(4)
    query, aside = unit(rng.normal(size=(2, 512)))
    train = unit(query + 0.3 * aside + rng.normal(size=(400, 512)) * 3e-6)
    mine = neighbours(train, query[None], 20, screen(train))
    oracle = by_sorting(train, query[None], 20)
    assert oracle[1][0, 0] - oracle[1][0, -1] < 1e7 * product_error(512)
    for found, expected in zip(mine, oracle, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("spread", [1e-2, 3e-3, 1e-3, 1e-4])
def test_the_worst_screen_within_the_bound_finds_the_same(spread):
    """It sees the neighbours too low and all others too high, by all that float32 may be off."""
    train, queries = rows_of(2000, 64, 5), rows_of(20, 64, 6)
    train = unit(train[0] + spread * train)
    oracle = by_sorting(train, queries, 20)

    def worst(queries, count):
        scores = queries.astype(np.float64) @ train.astype(np.float64).T + 0.99 * product_error(64)
        nearest = by_sorting(train, queries, 20)[0]
        lower = np.take_along_axis(scores, nearest, axis=1) - 2 * 0.99 * product_error(64)
        np.put_along_axis(scores, nearest, lower, axis=1)
        rows = np.argsort(-scores, axis=1)[:, :count]
        return np.take_along_axis(scores, rows, axis=1).astype(np.float32), rows

    assert (worst(queries, 20)[1] != oracle[0]).any()
    for found, expected in zip(neighbours(train, queries, 20, worst), oracle, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_numpy_searches_where_faiss_is_not_installed(monkeypatch):
    train, queries = rows_of(50, 8, 8), rows_of(5, 8, 9)
    with_faiss = neighbours(train, queries, 4)
    monkeypatch.setitem(sys.modules, "faiss", None)
    for found, expected in zip(neighbours(train, queries, 4), with_faiss, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "train, queries, k, message",
    [
        (np.eye(4), np.eye(4), 5, "k is 5, expected a number between 1 and the 4 train rows"),
        (np.eye(4), np.eye(4), 0, "k is 0"),
        (np.eye(4), np.eye(3), 1, "train have 4 dimensions and queries 3"),
        (np.eye(4) * 2, np.eye(4), 1, "row 0 of train has length 2"),
        (np.eye(4), np.eye(4) * np.nan, 1, "row 0 of queries has NaN"),
    ],
)
def test_bad_input(train, queries, k, message):
    with pytest.raises(InputError, match=message):
        neighbours(train, queries, k)
