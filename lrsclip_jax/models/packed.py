"""Packed texts: several texts share a row, instead of one padded row for each."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lrsclip_jax.sharding import BATCH, constrain


class Packed(NamedTuple):
    """Texts laid end to end in R rows of N slots, in G groups of R/G consecutive rows (`data.batches.packing`).

    A group stands for what one device holds: its texts lie in its own rows, so none travels.

    Attributes:
      ids: int32 [R, N], the tokens.
      segments: int32 [R, N], which text of its row a slot belongs to, from 1 on; 0 where it is empty.
      positions: int32 [R, N], of each token in its text, from 0 on.
      spans: int32 [G, T, 2], start and length of every text in the R/G·N slots of its group; length 0 for none.
    """

    ids: jax.Array
    segments: jax.Array
    positions: jax.Array
    spans: jax.Array


def at_slots(hidden: jax.Array, slots: jax.Array) -> jax.Array:
    """Picks tokens [R, N, width] by their slots in each of G groups, int [G, T] -> [G, T, width]."""
    groups = constrain(hidden.reshape(len(slots), -1, hidden.shape[-1]), BATCH)
    return jnp.take_along_axis(groups, slots[..., None], axis=1)
