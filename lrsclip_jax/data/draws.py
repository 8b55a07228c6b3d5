"""Random draws keyed by what they are for, equal on every machine and in every version of NumPy.

All are derived from the uniform doubles of a Philox stream: NumPy lets its other distributions change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def stream(seed: int, index: int, purpose: int = 0) -> np.random.Generator:
    """Returns a generator of its own for every (seed, index, purpose), independent of earlier draws."""
    return np.random.Generator(np.random.Philox(key=[seed, index], counter=[0, 0, 0, purpose]))


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """Draws one of `options`."""
    return options[int(rng.random() * len(options))]


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """Draws a number from [low, high)."""
    return low + (high - low) * rng.random()


def shuffled(rng: np.random.Generator, items: Sequence[T]) -> list[T]:
    """Draws an order of `items`."""
    return [items[i] for i in np.argsort(rng.random(len(items)), kind="stable")]


def differing(rng: np.random.Generator, texts: Sequence[str], others: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Draws for each text one of those at its place in `others` that differ from it; "" where none does."""
    there = [[other[place] for other in others if other[place] != text] for place, text in enumerate(texts)]
    return tuple(pick(rng, each) if each else "" for each in there)
