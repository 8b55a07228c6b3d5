"""The lengths of LRS2M's texts, from which a plan starts where there is no data yet.

LRSCLIP's Table I (arXiv 2503.19311) has the pairs and the mean lengths of every subset, in tokens; how they scatter it
only draws. Here a subset's lengths are log-normal with its means and a coefficient of variation of 0.25 (long texts)
and 0.35 (short ones).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from eval.papers.published_tables import tables

VARIATION = {"long": 0.25, "short": 0.35}  # standard deviation over mean, within a subset
SHORTEST, LONGEST = 8, 248


class Lengths(NamedTuple):
    """Tokens of the two texts of each pair, start and end token among them; int64 [pairs] each."""

    long: np.ndarray
    short: np.ndarray


class Subset(NamedTuple):
    """A row of Table I: its pairs, and the mean lengths of their texts in tokens."""

    name: str
    pairs: int
    long: float
    short: float


def subsets() -> list[Subset]:
    """Returns the rows of Table I."""
    table = next(table for table in tables("LRSCLIP") if "corpus" in table.tasks)
    of_row = ("{}/pairs", "{}/long/mean_tokens", "{}/short/mean_tokens")
    return [Subset(row.method, *(row.values[path.format(row.method)] for path in of_row)) for row in table.rows]


def drawn_lengths(pairs: int, seed: int) -> Lengths:
    """Draws the lengths of `pairs` pairs: each pair's subset by the subsets' counts, then those of both its texts."""
    rng, parts = np.random.default_rng(seed), subsets()
    counts = np.array([part.pairs for part in parts])
    drawn = rng.choice(len(parts), pairs, p=counts / counts.sum())

    def of_kind(kind: str) -> np.ndarray:
        mean = np.array([getattr(part, kind) for part in parts])[drawn]
        variance = np.log1p(VARIATION[kind] ** 2)  # of the logarithm
        lengths = rng.lognormal(np.log(mean) - variance / 2, variance**0.5)
        return np.clip(np.rint(lengths), SHORTEST, LONGEST).astype(np.int64)

    return Lengths(*map(of_kind, Lengths._fields))
