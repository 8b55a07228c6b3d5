"""What a query knows of the candidates that it has met, block by block, and what its gradient needs of that."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lrsclip_jax.losses.blocks import NEVER, Relations


class Positives(NamedTuple):
    """Statistics of queries over the candidates of their own image; float32 leaves [Q]."""

    margins: jax.Array  # Σ margin
    number: jax.Array
    largest_negative: jax.Array  # margin of the other candidates

    @classmethod
    def empty(cls, own: jax.Array) -> Positives:
        return cls(jnp.zeros_like(own), jnp.zeros_like(own), jnp.full_like(own, NEVER))

    def after(self, margins: jax.Array, related: Relations) -> Positives:
        if related.positive is None:
            return self
        return Positives(
            self.margins + jnp.where(related.positive, margins, 0).sum(1),
            self.number + related.positive.sum(1),
            jnp.maximum(self.largest_negative, related.negatives_of(margins).max(1)),
        )


class Statistics(NamedTuple):
    """Statistics of queries over the candidates met so far; float32 leaves [Q]."""

    largest: jax.Array  # margin
    exponentials: jax.Array  # Σ exp(margin − largest)
    margins: jax.Array  # Σ margin of candidates
    candidates: jax.Array  # their number
    of_positives: Positives | None = None  # None: all candidates are negatives

    @classmethod
    def empty(cls, own: jax.Array, several: bool) -> Statistics:
        """Returns the statistics of queries with these own cosines, before any candidate.

        `several` says that there may be more positives than the own candidate.
        """
        none = jnp.full_like(own, NEVER), jnp.zeros_like(own), jnp.zeros_like(own), jnp.zeros_like(own)
        return cls(*none, Positives.empty(own) if several else None)

    def after(self, margins: jax.Array, related: Relations) -> Statistics:
        """Returns the statistics after the candidates of a block [Q, C]."""
        largest = jnp.maximum(self.largest, margins.max(1))
        met = jnp.exp(margins - largest[:, None]).sum(1)
        return Statistics(
            largest,
            self.exponentials * jnp.exp(self.largest - largest) + met,
            self.margins + jnp.where(related.candidate, margins, 0).sum(1),
            self.candidates + related.candidate.sum(1),
            self.of_positives and self.of_positives.after(margins, related),
        )

    @property
    def largest_negative(self) -> jax.Array:
        """The largest margin of a negative."""
        return self.largest if self.of_positives is None else self.of_positives.largest_negative

    def loss(self, label_smoothing: float) -> jax.Array:
        """Returns the loss of each query, [Q], once all candidates were met."""
        partition = jax.nn.softplus(self.largest + jnp.log(self.exponentials))
        loss = partition - label_smoothing * self.margins / (1 + self.candidates)
        if self.of_positives is None:
            return loss
        return loss - (1 - label_smoothing) * self.of_positives.margins / (1 + self.of_positives.number)

    def summary(self, label_smoothing: float) -> Summary:
        """Returns the summary that the gradient needs, once all candidates were met."""
        largest = jnp.maximum(self.largest, 0)
        partition = jnp.exp(-largest) + self.exponentials * jnp.exp(self.largest - largest)
        share = None if self.of_positives is None else (1 - label_smoothing) / (1 + self.of_positives.number)
        return Summary(largest, 1 / partition, label_smoothing / (1 + self.candidates), share)


class Summary(NamedTuple):
    """The complete statistics as far as the gradient needs them; float32 leaves [Q]."""

    largest: jax.Array  # margin, the own candidate's 0 included
    factor: jax.Array  # the probability of a candidate is exp(margin − largest) · factor
    share: jax.Array  # of the label smoothing that each candidate gets, ε / (1 + number of candidates)
    positive_share: jax.Array | None = None  # of the rest that each positive gets, (1 − ε) / (1 + their number)

    def surrogate(self, margins: jax.Array, related: Relations) -> jax.Array:
        """Returns [Q], whose gradient in the margins of a block [Q, C], with this summary held fixed, is the loss's."""
        probabilities = jnp.exp(margins - self.largest[:, None]) * self.factor[:, None]
        gradient = probabilities - self.share[:, None] * jnp.where(related.candidate, margins, 0)
        if self.positive_share is not None and related.positive is not None:
            gradient -= self.positive_share[:, None] * jnp.where(related.positive, margins, 0)
        return gradient.sum(1)
