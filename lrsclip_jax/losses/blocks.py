"""Blocks of logits, some queries against some candidates: what the forms of the loss have in common.

All is float32, and features are multiplied at the highest precision: an accelerator's default, bfloat16 or
TF32, is too coarse for logits of up to 100.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

PyTree = Any

# The margin of what is no negative. Its exponential is 0; unlike -inf it keeps a row of nothing else finite.
NEVER = -1e30

# Sums of D products in another order differ by less than this. Equal texts tie, whatever computed their cosines.
_TIE = 1e-6


class Labels(NamedTuple):
    """What decides which pairs of a batch are each other's negatives; leaves [B, …], or those of some rows."""

    index: jax.Array  # int32, the place of the pair in the global batch
    valid: jax.Array  # bool, False where the pair lacks this text
    keys: jax.Array | None  # [B, K], equal for texts that are equal; None: every other text is a negative

    @classmethod
    def of(cls, pairs: int, valid: jax.Array | None, keys: jax.Array | None) -> Labels:
        """The labels of a whole batch, in which by default all pairs are valid."""
        valid = jnp.ones(pairs, bool) if valid is None else jnp.asarray(valid)
        return cls(jnp.arange(pairs), valid, None if keys is None else jnp.asarray(keys))


def stopped(candidates: PyTree, gradient: str) -> PyTree:
    """Candidates as the loss sees them: without a gradient for `gradient="reference"`, unchanged for "full"."""
    return jax.lax.stop_gradient(candidates) if gradient == "reference" else candidates


def products(queries: jax.Array, candidates: jax.Array) -> jax.Array:
    """[Q, D] and [C, D] to [Q, C]."""
    return jnp.matmul(queries, candidates.T, precision=jax.lax.Precision.HIGHEST)


def cosines(image: jax.Array, text: jax.Array, gradient: str) -> tuple[jax.Array, jax.Array]:
    """The same cosines of images [I, D] and texts [T, D] with each as queries, [I, T] and [T, I]."""
    of_images = products(image, stopped(text, gradient))
    of_texts = of_images if gradient == "full" else products(stopped(image, gradient), text)
    return of_images, of_texts.T


def own_cosines(image: jax.Array, text: jax.Array, gradient: str) -> tuple[jax.Array, jax.Array]:
    """The same cosines of pairs, rows of [B, D] and [B, D], with each as queries, [B] and [B]."""
    return (image * stopped(text, gradient)).sum(1), (stopped(image, gradient) * text).sum(1)


def negatives(queries: Labels, candidates: Labels) -> jax.Array:
    """bool [Q, C], where both are valid, of two pairs, and of texts that are not equal."""
    negative = queries.valid[:, None] & candidates.valid[None, :]
    negative &= queries.index[:, None] != candidates.index[None, :]
    if queries.keys is not None:
        negative &= (queries.keys[:, None, :] != candidates.keys[None, :, :]).any(-1)
    return negative


def margins(cosines: jax.Array, own: jax.Array, negative: jax.Array, logit_scale: jax.Array) -> jax.Array:
    """m_ij = s·(cos_ij − own_i), [Q, C], by how much negatives score above the query's own candidate; else -1e30."""
    return jnp.where(negative, logit_scale * (cosines - own[:, None]), NEVER)


def cross_entropy(margins: jax.Array, negative: jax.Array, label_smoothing: float) -> jax.Array:
    """The loss of queries whose candidates are all there; [Q, C] to [Q]."""
    loss = jax.nn.softplus(jax.nn.logsumexp(margins, axis=1))
    if label_smoothing:
        loss -= label_smoothing * jnp.where(negative, margins, 0).sum(1) / (1 + negative.sum(1))
    return loss


def is_best(largest_margin: jax.Array, logit_scale: jax.Array) -> jax.Array:
    """Whether the own candidate scores higher than every negative; a tie does not count."""
    return largest_margin < -_TIE * logit_scale


def mean(values: jax.Array, valid: jax.Array) -> jax.Array:
    """The mean over the valid entries, 0 if there are none."""
    return jnp.where(valid, values, 0).sum(dtype=jnp.float32) / jnp.maximum(valid.sum(), 1)


def in_chunks(rows: PyTree, chunk: int) -> PyTree:
    """Splits the rows of every leaf [B, …] into as few equal parts of at most `chunk` rows as there can be.

    Returns:
        Leaves [N, C, …], filled up with rows of zeros: features of length 0, labels that are not valid. A chunk of
        0, and one of B or more, makes one part.
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
