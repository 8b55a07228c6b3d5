"""The exact engine: the rows that score highest with a query, equal to a comparison with every row.

Scores are those of `eval.scores`: inner products of float32 rows, rounded to 1e-7; among equal ones the lowest row
comes first. Any engine has a method `top`.

FAISS looks through 8-bit codes (`search.codes`), by whole numbers and so without rounding, and hands over a few hundred
candidates, whose float32 rows are scored exactly. No other row can be among the best: what the codes of the last
candidate say, plus the bound of their error, is below the score of the last one found. Where that does not hold,
because many rows are nearly equal, the float32 product with all rows decides which are scored exactly. So it does
where candidates would be much of the index.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from eval.errors import InputError
from eval.scores import SCALE, pair_scores, read_rows, spans
from eval.screening import product_error
from lrsclip_jax.search.codes import Codes, open_codes

SHARD = 2**16  # rows that a thread looks through at a time
CANDIDATES = 512
_SHARE = 8  # with fewer rows than this many times the candidates, the float32 product is as quick
_BLOCK = 2**14


class Found(NamedTuple):
    """Rows of the index, int64 [K], best first, and their scores between -1 and 1, float64 [K]."""

    rows: np.ndarray
    scores: np.ndarray


class Engine(Protocol):
    """Finds rows by their scores.

    Attributes:
      notes: what a person who asks should know of it, such as that it misses some rows.
    """

    notes: Sequence[str]

    def top(self, query: np.ndarray, k: int, allowed: np.ndarray | None = None) -> Found:
        """Returns the k rows that score highest; all that are allowed where they are fewer.

        Args:
          query: unit, float32 [D].
          k: at least 1.
          allowed: which rows count, bool [N]; None for all.
        """


class ExactEngine:
    """The default engine, in process. Threads may share one.

    Args:
      rows: unit rows, float32 [N, D], memory-mapped.
      images: the file that they are of: codes of a large index are kept in its folder.

    Raises:
      InputError: FAISS is missing, or a row is not finite or not of unit length.
    """

    def __init__(self, rows: np.ndarray, images: Path):
        self.notes: Sequence[str] = ()
        self._faiss = _faiss()
        self._rows = rows
        self._codes: Codes = open_codes(rows, images)
        self._quantizer = self._faiss.ScalarQuantizer(rows.shape[1], self._faiss.ScalarQuantizer.QT_8bit_direct_signed)
        self._threads = ThreadPoolExecutor(os.cpu_count(), "search")

    def top(self, query: np.ndarray, k: int, allowed: np.ndarray | None = None) -> Found:
        """See `Engine`."""
        query = np.ascontiguousarray(query, np.float32)
        count = len(self._rows) if allowed is None else int(np.count_nonzero(allowed))
        k = min(k, count)
        if not k:
            return Found(np.zeros(0, np.int64), np.zeros(0))
        candidates = max(CANDIDATES, 4 * k)
        if count > _SHARE * candidates and (found := self._by_codes(query, k, candidates, allowed)):
            return found
        return self._by_product(query, k, allowed)

    def _by_codes(self, query: np.ndarray, k: int, candidates: int, allowed: np.ndarray | None) -> Found | None:
        """The best rows if the bound proves them, else None."""
        question, offset, unit, error = self._codes.question(query)

        def scan(span: slice) -> tuple[np.ndarray, np.ndarray]:
            return self._scan(question, span, candidates, allowed)

        found = self._threads.map(scan, spans(len(self._rows), SHARD))
        sums, rows = map(np.concatenate, zip(*found, strict=True))
        chosen = np.argpartition(sums, -candidates)[-candidates:]
        chosen = chosen[np.argsort(rows[chosen])]
        said = (offset + unit * sums[chosen].astype(np.float64)) * SCALE
        exact, spare = exact_scores(self._rows, query, rows[chosen]), error * SCALE + 1
        if np.abs(exact - said).max() > spare:
            return None  # codes of other rows, or damaged ones
        best = best_of(exact, rows[chosen], k)
        return best if said.min() + spare < best.scores[-1] * SCALE - 1 else None

    def _scan(
        self, question: np.ndarray, span: slice, count: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The `count` highest sums of a span of codes, float32, and their rows."""
        faiss, selector = self._faiss, None
        if allowed is not None:
            if not allowed[span].any():
                return np.zeros(0, np.float32), np.zeros(0, np.int64)
            selector = faiss.IDSelectorBitmap(np.packbits(allowed[span], bitorder="little"))
        codes = self._codes.codes[span]
        sums, rows = np.full(count, -np.inf, np.float32), np.full(count, -1, np.int64)
        scanner = self._quantizer.select_InvertedListScanner(faiss.METRIC_INNER_PRODUCT, None, True, selector)
        scanner.set_query(faiss.swig_ptr(question))
        scanner.set_list(0, 0.0)
        pointers = map(faiss.swig_ptr, (np.asarray(codes), sums, rows))
        scanner.scan_codes(len(codes), next(pointers), None, *pointers, count)
        held = rows >= 0
        return sums[held], rows[held] + span.start

    def _by_product(self, query: np.ndarray, k: int, allowed: np.ndarray | None) -> Found:
        wanted = None if allowed is None else np.flatnonzero(allowed)
        count = len(self._rows) if wanted is None else len(wanted)
        scores = np.empty(count, np.float32)
        for span in spans(count, _BLOCK):
            scores[span] = self._rows[span if wanted is None else wanted[span]] @ query
        kth = float(np.partition(scores, count - k)[count - k])
        # A row with the k-th exact score may be seen too low, the k-th seen too high, and both were rounded.
        near = np.flatnonzero(scores >= kth - 2 * product_error(len(query)) - 2 / SCALE)
        return self._best(query, near if wanted is None else wanted[near], k)

    def _best(self, query: np.ndarray, rows: np.ndarray, k: int) -> Found:
        """The k best of some rows by their exact scores."""
        rows = np.sort(rows)
        return best_of(exact_scores(self._rows, query, rows), rows, k)


def engine_of(name: str | Engine, rows: np.ndarray, images: Path) -> Engine:
    """Returns an engine by its name, "exact" or "milvus:URI", for the rows of a file; InputError for another name."""
    if not isinstance(name, str):
        return name
    if name == "exact":
        return ExactEngine(rows, images)
    if name.startswith("milvus:"):
        from lrsclip_jax.search.milvus import MilvusEngine

        return MilvusEngine(name.removeprefix("milvus:"), rows, images)
    raise InputError(f"unknown engine {name!r:.80}: expected exact or milvus:URI")


def exact_scores(matrix: np.ndarray, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns the scores of some rows of a matrix with a query, float64 [K] in units of 1e-7."""
    scores = np.empty(len(rows))
    asked = query.astype(np.float64)[None]
    for span in spans(len(rows), _BLOCK):
        chosen = read_rows(matrix, rows[span])
        scores[span] = pair_scores(np.broadcast_to(asked, chosen.shape), chosen)
    return scores


def best_of(scores: np.ndarray, rows: np.ndarray, k: int) -> Found:
    """Returns the k best rows, given in rising order with scores in units of 1e-7."""
    order = np.argsort(-scores, kind="stable")[:k]
    return Found(rows[order], scores[order] / SCALE)


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise InputError("searching needs FAISS: pip install 'lrsclip_jax[search]'") from None
    return faiss
