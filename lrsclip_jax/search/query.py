"""Texts, example images and tiles that were liked or not: one direction in the space of the embeddings.

A part counts by how much its scores vary over the index: those of an example image vary several times as much as those
of a text, which would drown otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from lrsclip_jax.errors import InputError

NEGATIVE = 0.5  # of the weight of what is looked for, all negative texts together
ALPHA, BETA, GAMMA = 1.0, 0.75, 0.25  # of Rocchio: the query, the tiles to find more of, and those to stay away from

# Takes vectors [P, D]; returns the standard deviation of each one's scores over the index, [P].
Spread = Callable[[np.ndarray], np.ndarray]


class Part(NamedTuple):
    """A unit vector, [D], its weight, negative for what to stay away from, and whether it is an image's."""

    vector: np.ndarray
    weight: float
    image: bool


def parts_of(texts: np.ndarray, images: np.ndarray, negatives: np.ndarray) -> list[Part]:
    """Returns the parts of a query: what is wanted, all with one weight, 1 together, and what is not.

    Args:
      texts, images: unit embeddings of what to look for, [T, D] and [I, D].
      negatives: unit embeddings of texts to stay away from, [U, D].
    """
    wanted = len(texts) + len(images)
    parts = [Part(vector, 1 / wanted, False) for vector in texts]
    parts += [Part(vector, 1 / wanted, True) for vector in images]
    return parts + [Part(vector, -NEGATIVE / len(negatives), False) for vector in negatives]


def refined(
    parts: Sequence[Part],
    more: np.ndarray,
    less: np.ndarray,
    weights: tuple[float, float, float] = (ALPHA, BETA, GAMMA),
) -> list[Part]:
    """Returns a query moved towards the mean of some tiles and away from that of others (Rocchio 1971).

    Args:
      parts: of the query; none to start from `more`.
      more, less: unit rows of the index, [M, D] and [L, D]; either may be empty.
      weights: alpha of the query, beta of `more`, gamma of `less`.
    """
    alpha, beta, gamma = weights
    moved = [part._replace(weight=alpha * part.weight) for part in parts]
    means = [(rows, weight) for rows, weight in ((more, beta), (less, -gamma)) if len(rows)]
    return moved + [Part(unit(np.asarray(rows, np.float64).mean(axis=0)), weight, True) for rows, weight in means]


def direction(parts: Sequence[Part], spread: Spread) -> np.ndarray:
    """Returns the sum of parts by their weights, each over its spread: a unit vector, float32 [D].

    One part alone is returned as it is.

    Raises:
      InputError: nothing is wanted, or the parts cancel each other out.
    """
    if not any(part.weight > 0 for part in parts):
        raise InputError("say what to look for: a text, an example image, or tiles to find more of")
    vectors = np.stack([part.vector for part in parts])
    if len(parts) == 1:
        return vectors[0].astype(np.float32)
    spreads = np.asarray(spread(vectors), np.float64)
    if spreads.min() < 1e-6:  # an index of one tile, or of copies of one
        spreads = np.ones(len(parts))
    return unit((np.array([part.weight for part in parts]) / spreads) @ vectors)


def unit(vector: np.ndarray) -> np.ndarray:
    """Returns a vector at unit length, float32 [D]; InputError where it has no direction."""
    vector = np.asarray(vector, np.float64)
    length = np.linalg.norm(vector)
    if not length > 1e-9:
        raise InputError("the parts of the query cancel each other out")
    return (vector / length).astype(np.float32)
