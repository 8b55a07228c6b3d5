"""Exact nearest neighbours of unit rows: float32 finds candidates, exact scores choose among them.

Scores are those of `eval.scores`; among equal ones the lowest row comes first. FAISS finds candidates where it is
installed and numpy where not, and the neighbours are the same: a float32 product is off by no more than a known bound,
so the candidates hold the neighbours unless the last one scores within twice that bound of the k-th. Queries of which
that is so, among many copies of one row for instance, are compared with every row exactly.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from eval.errors import InputError
from eval.scores import SCALE, best_matches, check_unit_rows, matching_matrices, pair_scores, read_rows, spans
from eval.screening import product_error

QUERIES_AT_A_TIME = 256
ROWS_AT_A_TIME = 8192
PAIRS_AT_A_TIME = 1024
GROUP = 32  # scores of which numpy first looks at the maximum
SPARE = 12  # candidates beyond k: those within the bound of the k-th are seldom more than one or two

# Takes queries [Q, D] and a count; returns the highest float32 scores [Q, count], in any order, and their rows.
Screen = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def neighbours(train, queries, k: int, screen: Screen | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Returns the k nearest rows of `train` for each query, nearest first.

    Args:
      train: unit rows [N, D], read as float32.
      queries: unit rows [Q, D].
      k: neighbours a query.
      screen: what finds candidates; `screen_of(train)` by default.

    Returns:
      Rows of `train`, int64 [Q, k], and their scores, float64 [Q, k] in units of 1e-7.

    Raises:
      InputError: dimensions differ, a row is not finite or not of unit length, k is more than the rows of `train`.
    """
    train, queries = (np.asarray(rows, np.float32) for rows in matching_matrices(train=train, queries=queries))
    check_unit_rows(train, "train")
    check_unit_rows(queries, "queries")
    if not 1 <= k <= len(train):
        raise InputError(f"k is {k}, expected a number between 1 and the {len(train)} train rows")
    screen = screen or screen_of(train)
    rows, scores = np.empty((len(queries), k), np.int64), np.empty((len(queries), k))
    blocks = list(spans(len(queries), QUERIES_AT_A_TIME))
    # A thread a block: threads that share one product wait for each other, long where cores are busy.
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as threads:
        found = threads.map(lambda span: _nearest(train, queries[span], k, screen), blocks)
        progress = tqdm(found, desc="k-NN", total=len(blocks), unit="block", disable=None, leave=False)
        for span, nearest in zip(blocks, progress, strict=True):
            rows[span], scores[span] = nearest
    return rows, scores


def screen_of(train: np.ndarray) -> Screen:
    """Returns FAISS's search among float32 rows, or numpy's where FAISS is not installed."""
    try:
        import faiss
    except ImportError:
        return numpy_screen(train)
    index = faiss.IndexFlatIP(train.shape[1])
    index.add(np.ascontiguousarray(train))

    def screen(queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        faiss.omp_set_num_threads(1)  # which OpenMP counts for each thread that calls
        return index.search(np.ascontiguousarray(queries), count)

    return screen


def numpy_screen(train: np.ndarray) -> Screen:
    """Returns a search among float32 rows by matrix products, a block of rows at a time."""

    def screen(queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        best, rows = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        for span in spans(len(train), ROWS_AT_A_TIME):
            scores = queries @ train[span].T
            columns = _highest(scores, count)
            best = np.concatenate([best, np.take_along_axis(scores, columns, axis=1)], axis=1)
            rows = np.concatenate([rows, columns + span.start], axis=1)
            kept = _highest(best, count)
            best, rows = np.take_along_axis(best, kept, axis=1), np.take_along_axis(rows, kept, axis=1)
        return best, rows

    return screen


def _highest(scores: np.ndarray, count: int) -> np.ndarray:
    """Columns of the highest scores of each row, int64 [Q, count], in any order; all of them where they are fewer."""
    groups, left = divmod(scores.shape[1], GROUP)
    if left or groups <= count:
        return np.argpartition(scores, -min(count, scores.shape[1]), axis=1)[:, -count:]
    # The highest scores lie in the groups with the highest maxima; five times as fast as a partition of all.
    grouped = scores.reshape(len(scores), GROUP, groups)
    chosen = np.argpartition(grouped.max(axis=1), -count, axis=1)[:, -count:]
    near = np.take_along_axis(grouped, chosen[:, None], axis=2).reshape(len(scores), -1)
    place, group = np.divmod(np.argpartition(near, -count, axis=1)[:, -count:], count)
    return place * groups + np.take_along_axis(chosen, group, axis=1)


def _nearest(train: np.ndarray, queries: np.ndarray, k: int, screen: Screen) -> tuple[np.ndarray, np.ndarray]:
    count = min(k + SPARE, len(train))
    found, rows = screen(queries, count)
    kth = np.partition(found, count - k, axis=1)[:, count - k].astype(np.float64)
    # A row with the k-th exact score may be seen too low, the k-th seen too high, and both were rounded.
    lowest = kth - 2 * product_error(train.shape[1]) - 1 / SCALE
    scores = np.full(found.shape, -np.inf)
    pairs = np.nonzero(found >= lowest[:, None])
    for some in spans(len(pairs[0]), PAIRS_AT_A_TIME):
        query, place = pairs[0][some], pairs[1][some]
        scores[query, place] = pair_scores(read_rows(queries, query), read_rows(train, rows[query, place]))
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    rows, scores = np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)
    if count < len(train):
        unsure = np.flatnonzero(found.min(axis=1) >= lowest)
        if len(unsure):
            rows[unsure], similarities = best_matches(queries[unsure], train, k)
            scores[unsure] = np.rint(similarities * SCALE)
    return rows, scores
