"""Scores of several trainings of one recipe, and paired intervals of the difference between two recipes.

A score is made of counts of units, which are what a test set has many of: images with their texts, or queries. A
training has the same units as any other on the same set, so that two of them are compared on equal draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from eval.errors import InputError
from eval.retrieval import Interval

LEVEL = 0.95
_BLOCK = 2**22  # numbers of a block of draws


class Units(NamedTuple):
    """What each unit of a set adds to a score: float64 [U, J] each.

    The score is the mean over the J columns of sum(earned) / sum(possible). `earned` is in the score's own unit:
    100 for a hit where the score is in per cent.
    """

    earned: np.ndarray
    possible: np.ndarray


Parts = Sequence[Units]  # of one training: its units of each set; the score is the mean over the sets


def columns(parts: Parts) -> list[float]:
    """Returns the mean over the sets of each column: their mean is the score."""
    return np.mean([part.earned.sum(0) / part.possible.sum(0) for part in parts], axis=0).tolist()


def score(parts: Parts) -> float:
    """Returns the score of one training."""
    return float(np.mean(columns(parts)))


def mean_and_spread(scores: Sequence[float]) -> tuple[float, float | None]:
    """Returns the mean of the scores of several seeds, and their standard deviation; None for a single one."""
    return float(np.mean(scores)), float(np.std(scores, ddof=1)) if len(scores) > 1 else None


def paired_difference(
    ours: Sequence[Parts],
    others: Sequence[Parts],
    *,
    level: float = LEVEL,
    samples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Returns the mean difference of two recipes over their seeds, ours minus the others', with a bootstrap interval.

    Units are drawn with replacement, the same for all trainings. Seeds are drawn with replacement in pairs. A bootstrap
    of few seeds is too narrow, so that the draws of seeds are spread by sqrt(S / (S - 1)) · t / z: without any units to
    draw, the interval would be Student's for S seeds. One seed has no spread: its interval is of the units alone.

    Args:
      ours: the parts of each seed.
      others: those of the other recipe, seed by seed.
      level: of confidence, between 0 and 1.
      samples: number of draws.
      seed: of the draws.

    Raises:
      InputError: the recipes have different numbers of seeds or none, or were measured on different sets.
    """
    if len(ours) != len(others) or not ours:
        raise InputError(f"a paired difference needs the same seeds of both, got {len(ours)} and {len(others)}")
    models = [*ours, *others]
    shapes = {tuple(part.earned.shape for part in parts) for parts in models}
    if len(shapes) != 1:
        raise InputError(f"a paired difference needs the same sets, got units of {sorted(shapes)}")
    seeds, rng = len(ours), np.random.default_rng(seed)
    drawn = np.mean([_drawn(column, samples, rng) for column in zip(*models, strict=True)], axis=0)  # [samples, 2 S]
    differences = drawn[:, :seeds] - drawn[:, seeds:]
    weights = np.full((samples, seeds), 1 / seeds)
    if seeds > 1:
        tail = (1 + level) / 2
        wider = np.sqrt(seeds / (seeds - 1)) * stats.t.ppf(tail, seeds - 1) / stats.norm.ppf(tail)
        weights += wider * (rng.multinomial(seeds, weights[0], samples) / seeds - 1 / seeds)
    means = (weights * differences).sum(axis=1)
    value = float(np.mean([score(a) - score(b) for a, b in zip(ours, others, strict=True)]))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def _drawn(models: Sequence[Units], samples: int, rng: np.random.Generator) -> np.ndarray:
    """The scores of models on draws of one set's units, float64 [samples, models]."""
    earned, possible = (np.stack([getattr(each, name) for each in models], 1) for name in Units._fields)
    units, count, width = earned.shape
    scores = np.empty((samples, count))
    size = max(1, _BLOCK // units)
    for start in range(0, samples, size):
        block = slice(start, min(start + size, samples))
        times = rng.multinomial(units, np.full(units, 1 / units), block.stop - start).astype(np.float64)
        sums = (times @ each.reshape(units, -1) for each in (earned, possible))
        of_column = (each.reshape(-1, count, width) for each in sums)
        scores[block] = np.divide(*of_column).mean(axis=-1)
    return scores
