"""Blocks of logits, some queries against some candidates: the common parts of all forms of the loss.

Everything is float32, and features are multiplied at the highest precision: an accelerator's default, bfloat16 or
TF32, is too coarse for logits of up to 100.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

PyTree = Any

# The margin of candidates that are no negatives. Its exponential is 0; unlike -inf it keeps a row without any finite.
NEVER = -1e30

# Sums of D products in another order differ by less than this, so that equal texts tie in every form of the loss.
_TIE = 1e-6


class Labels(NamedTuple):
    """The labels that decide what pairs are to each other; leaves [B, …], or some of the rows."""

    # int32, the place of the pair in the global batch
    index: jax.Array  # type: ignore[assignment]  # not the method of a tuple
    valid: jax.Array  # bool, False where the pair lacks this text
    keys: jax.Array | None  # [B, K], equal for texts that are equal; None: every other text is a negative
    images: jax.Array | None = None  # [B, K], equal for pairs of one image, which are positives; None: there are none

    @classmethod
    def of(cls, pairs: int, valid: jax.Array | None, keys: jax.Array | None, images: jax.Array | None = None) -> Labels:
        """Returns the labels of a whole batch; by default all its pairs are valid."""
        valid = jnp.ones(pairs, bool) if valid is None else jnp.asarray(valid)
        keys, images = (None if key is None else jnp.asarray(key) for key in (keys, images))
        return cls(jnp.arange(pairs), valid, keys, images)


class Relations(NamedTuple):
    """How queries and candidates of other pairs stand to each other; bool leaves [Q, C]."""

    candidate: jax.Array  # whether the loss compares them
    positive: jax.Array | None  # those among them that show the same image; None: all are negatives

    @property
    def T(self) -> Relations:  # as of arrays
        return Relations(self.candidate.T, None if self.positive is None else self.positive.T)

    def negatives_of(self, margins: jax.Array) -> jax.Array:
        """Returns margins with those of positives taken out."""
        return margins if self.positive is None else jnp.where(self.positive, NEVER, margins)


def stopped(candidates: PyTree, gradient: str) -> PyTree:
    """Returns candidates as the loss sees them: without a gradient for `gradient="reference"`, unchanged for "full"."""
    return jax.lax.stop_gradient(candidates) if gradient == "reference" else candidates


def products(queries: jax.Array, candidates: jax.Array) -> jax.Array:
    """Returns all products of rows of [Q, D] and [C, D], [Q, C]."""
    return jnp.matmul(queries, candidates.T, precision=jax.lax.Precision.HIGHEST)


def cosines(image: jax.Array, text: jax.Array, gradient: str) -> tuple[jax.Array, jax.Array]:
    """Returns the cosines of images [I, D] and texts [T, D] with images as queries, [I, T], and with texts, [T, I]."""
    of_images = products(image, stopped(text, gradient))
    of_texts = of_images if gradient == "full" else products(stopped(image, gradient), text)
    return of_images, of_texts.T


def own_cosines(image: jax.Array, text: jax.Array, gradient: str) -> tuple[jax.Array, jax.Array]:
    """Returns the cosines of pairs, rows of [B, D] and [B, D], with images as queries and with texts, [B] each."""
    return (image * stopped(text, gradient)).sum(1), (stopped(image, gradient) * text).sum(1)


def relations(queries: Labels, candidates: Labels) -> Relations:
    """Returns the relations of pairs that are valid and different.

    Pairs of one image are positives, if the labels tell images apart; of other pairs, those with equal texts are left
    out, if the labels tell texts apart.
    """
    candidate = queries.valid[:, None] & candidates.valid[None, :]
    candidate &= queries.index[:, None] != candidates.index[None, :]
    positive = None
    if queries.images is not None and candidates.images is not None:
        positive = candidate & (queries.images[:, None, :] == candidates.images[None, :, :]).all(-1)
    if queries.keys is not None and candidates.keys is not None:
        candidate &= (queries.keys[:, None, :] != candidates.keys[None, :, :]).any(-1)
    return Relations(candidate if positive is None else candidate | positive, positive)


def margins(cosines: jax.Array, own: jax.Array, candidate: jax.Array, logit_scale: jax.Array) -> jax.Array:
    """Returns m_ij = s·(cos_ij − own_i), [Q, C]: how far candidates score above the own one; -1e30 for others."""
    return jnp.where(candidate, logit_scale * (cosines - own[:, None]), NEVER)


def cross_entropy(margins: jax.Array, related: Relations, label_smoothing: float) -> jax.Array:
    """Returns the loss of queries from the margins of all their candidates, [Q, C] to [Q]."""
    loss = jax.nn.softplus(jax.nn.logsumexp(margins, axis=1))
    if label_smoothing:
        candidate = related.candidate
        loss -= label_smoothing * jnp.where(candidate, margins, 0).sum(1) / (1 + candidate.sum(1))
    if related.positive is not None:
        positive = related.positive
        loss -= (1 - label_smoothing) * jnp.where(positive, margins, 0).sum(1) / (1 + positive.sum(1))
    return loss


def is_best(largest_margin: jax.Array, logit_scale: jax.Array) -> jax.Array:
    """Returns whether the own candidate scores higher than every negative; a tie does not count."""
    return largest_margin < -_TIE * logit_scale


def mean(values: jax.Array, valid: jax.Array) -> jax.Array:
    """Returns the mean over the valid entries, 0 if there are none."""
    return jnp.where(valid, values, 0).sum(dtype=jnp.float32) / jnp.maximum(valid.sum(), 1)


def weighted(
    pairs: Sequence[tuple[jax.Array, jax.Array]], labels: Sequence[Labels], weights: Sequence[jax.Array | float]
) -> tuple[jax.Array, list[tuple[jax.Array, jax.Array]]]:
    """Returns the weighted sum of the terms of a loss, and each of them with its accuracy, float32 scalars.

    `pairs` are of each term the losses of its pairs and whether the own text is the image's best, [B].
    """
    loss, terms = jnp.zeros([], jnp.float32), []
    for (losses, best), label, weight in zip(pairs, labels, weights, strict=True):
        term = mean(losses, label.valid)
        loss += weight * term
        terms.append((term, mean(best, label.valid)))
    return loss, terms


def in_chunks(rows: PyTree, chunk: int) -> PyTree:
    """Splits the rows of every leaf [B, …] into the fewest equal parts of at most `chunk` rows.

    Returns:
      Leaves [N, C, …], filled up with rows of zeros: features of length 0, labels that are not valid. A chunk of 0, or
      of B rows or more, makes one part.
    """
    size = jax.tree.leaves(rows)[0].shape[0]
    parts = -(-size // chunk) if chunk else 1
    length = -(-size // parts)

    def split(leaf: jax.Array) -> jax.Array:
        filled = jnp.pad(leaf, [(0, parts * length - size), *[(0, 0)] * (leaf.ndim - 1)])
        return filled.reshape(parts, length, *leaf.shape[1:])

    return jax.tree.map(split, rows)


def joined(parts: PyTree, size: int) -> PyTree:
    """Undoes `in_chunks`: leaves [N, C, …] to [size, …]."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:size], parts)
