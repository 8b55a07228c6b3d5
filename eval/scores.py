"""Exact scores of unit embeddings, block by block: each one depends on its two rows and on nothing else.

A score is the inner product of two float32 rows rounded to 1e-7, held as a whole number of 1e-7 in float64.
Products of float32 values are exact in float64; only their sum depends on its order, and so on block sizes,
threads and devices. Where that could tip the rounding, the sum is computed again without error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from eval.errors import InputError

SCALE = 1e7
UNIT_TOLERANCE = 1e-3  # what half precision leaves of a unit length


def block_scores(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the scores of all pairs, float64 [A, B] in units of 1e-7; a and b come from `read_rows`."""
    scaled = a @ b.T
    scaled *= SCALE
    rounded = np.rint(scaled)
    scaled -= rounded
    unsure = np.abs(scaled, out=scaled) > 0.5 - _summation_error(a.shape[1])
    for i, j in zip(*np.nonzero(unsure), strict=True):
        rounded[i, j] = _exact_score(a[i], b[j])
    return rounded


def pair_scores(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the scores of matching rows, float64 [N] in units of 1e-7: the diagonal of `block_scores`."""
    scaled = np.einsum("nd,nd->n", a, b) * SCALE
    rounded = np.rint(scaled)
    for i in np.flatnonzero(np.abs(scaled - rounded) > 0.5 - _summation_error(a.shape[1])):
        rounded[i] = _exact_score(a[i], b[i])
    return rounded


def best_matches(queries, candidates, k: int = 5, block: int = 2048) -> tuple[np.ndarray, np.ndarray]:
    """Returns the k best candidates of each query, best first, the lowest row first among equal scores.

    Args:
      queries: unit rows [Q, D], a few: all of them meet one block of candidates at a time.
      candidates: unit rows [N, D].
      k: candidates a query; all N if there are fewer.
      block: candidates that are compared at a time.

    Returns:
      Rows of `candidates`, int64 [Q, k], and their scores between -1 and 1, float64 [Q, k].
    """
    queries, candidates = matching_matrices(queries=queries, candidates=candidates)
    query_rows = read_rows(queries, slice(None))
    rows, best = np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0))
    for span in spans(len(candidates), block):
        scores = np.concatenate([best, block_scores(query_rows, read_rows(candidates, span))], axis=1)
        found = np.broadcast_to(np.arange(span.start, span.stop), (len(queries), span.stop - span.start))
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        rows = np.take_along_axis(np.concatenate([rows, found], axis=1), order, axis=1)
        best = np.take_along_axis(scores, order, axis=1)
    return rows, best / SCALE


def spans(length: int, block: int) -> Iterator[slice]:
    """Yields slices of at most `block` rows that cover `length`."""
    return (slice(start, min(start + block, length)) for start in range(0, length, block))


def read_rows(matrix: np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
    """Returns the chosen rows as float64 that hold float32 values; the matrix may be memory-mapped."""
    return np.asarray(matrix[rows], np.float32).astype(np.float64)


def matching_matrices(**named) -> list[np.ndarray]:
    """Returns two named inputs as matrices; InputError when one is none or their dimensions differ."""
    matrices = [np.asarray(rows) for rows in named.values()]
    for name, rows in zip(named, matrices, strict=True):
        if rows.ndim != 2 or 0 in rows.shape:
            raise InputError(f"{name} must be a matrix of at least one row, got the shape {rows.shape}")
    (first, a), (second, b) = zip(named, (rows.shape[1] for rows in matrices), strict=True)
    if a != b:
        raise InputError(f"{first} have {a} dimensions and {second} {b}: embed both with the same model")
    return matrices


def check_unit_rows(matrix: np.ndarray, name: str, block: int = 2048) -> None:
    """Raises InputError naming the first row that is not finite or not of unit length within 1e-3."""
    for span in spans(len(matrix), block):
        rows = read_rows(matrix, span)
        lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
        wrong = np.flatnonzero(~(np.abs(lengths - 1) <= UNIT_TOLERANCE))
        if not len(wrong):
            continue
        row, length = span.start + wrong[0], lengths[wrong[0]]
        if not np.isfinite(length):
            raise InputError(f"row {row} of {name} has NaN or infinite values: mend the model that made it")
        raise InputError(f"row {row} of {name} has length {length:.4g} instead of 1: normalise rows first")


def _exact_score(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.rint(math.fsum(a * b) * SCALE))


def _summation_error(dimensions: int) -> float:
    # Twice the bound D·2⁻⁵³ for a sum of D products whose absolute values add up to at most 1.
    return SCALE * (dimensions + 2) * 2.0**-52
