"""Dropout of LoRA's input: every draw is keyed by seed, step, layer, place, sample and token.

So devices, microbatches, packing and restarts do not change it. The train step hands the towers what it needs as
variables of the collection DRAWS and as the key "dropout"; without them, as in evaluation, nothing is dropped.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from lrsclip_jax.models.adapt_rules import Adapt, Lora
from lrsclip_jax.models.native import PackedImages
from lrsclip_jax.models.packed import Packed

DRAWS, KEY = "draws", "dropout"


class Draws(NamedTuple):
    """What the draws of a block are keyed by.

    Attributes:
      key: of seed, step and layer.
      samples: int32 [rows, tokens], whose token it is.
      positions: int32 [rows, tokens], which of its tokens.
    """

    key: jax.Array
    samples: jax.Array
    positions: jax.Array


def drops(adapt: Adapt) -> bool:
    """Returns whether a tower's LoRA has dropout."""
    return any(isinstance(method, Lora) and method.dropout > 0 for _, method in adapt)


def of_rows(tower: str, samples: jax.Array | None) -> dict[str, Any]:
    """Returns the variables of a tower for rows that hold one sample each, int [rows]; {} where nothing is dropped."""
    return {} if samples is None else {DRAWS: {tower: {"blocks": {"samples": samples[:, None]}}}}


def of_packed(tower: str, packed: Packed | PackedImages, samples: Mapping[str, jax.Array]) -> dict[str, Any]:
    """Returns the variables of a tower for packed texts or images; {} where nothing is dropped.

    `samples` are those of each kind of text, or of the images, int [B], in the order of the pairs; the spans have all
    of a group's texts of the first kind first.
    """
    if not samples:
        return {}
    groups = len(packed.spans)
    owners = jnp.concatenate([of_kind.reshape(groups, -1) for of_kind in samples.values()], axis=1)
    slots = packed.positions.size // groups
    starts = jnp.where(packed.spans[..., 1] > 0, packed.spans[..., 0], slots)  # a text of no length starts nowhere
    starting = jnp.zeros((groups, slots), owners.dtype)
    starting = starting.at[jnp.arange(groups)[:, None], starts].set(owners, mode="drop")
    first = jnp.arange(slots) - packed.positions.reshape(groups, slots)
    of_slots = jnp.take_along_axis(starting, jnp.maximum(first, 0), axis=1).reshape(packed.positions.shape)
    return {DRAWS: {tower: {"blocks": {"samples": of_slots, "positions": packed.positions}}}}


def draws(block: nn.Module, x: jax.Array) -> Draws | None:
    """Returns what a block with input x [rows, tokens, width] was handed; None where nothing is to be dropped."""
    samples: Any = block.get_variable(DRAWS, "samples")
    if samples is None:
        return None
    positions: Any = block.get_variable(DRAWS, "positions", jnp.arange(x.shape[1])[None])
    samples, positions = (jnp.broadcast_to(values, x.shape[:2]) for values in (samples, positions))
    return Draws(block.make_rng(KEY), samples, positions)


def dropped(x: jax.Array, share: float, place: str, drawn: Draws | None) -> jax.Array:
    """Returns x [rows, tokens, width] without a share of its numbers; the others are divided by what is left."""
    if not share or drawn is None:
        return x
    key = jax.random.fold_in(drawn.key, zlib.crc32(place.encode()))

    def kept(sample: jax.Array, position: jax.Array) -> jax.Array:
        of_token = jax.random.fold_in(jax.random.fold_in(key, sample), position)
        return jax.random.bernoulli(of_token, 1 - share, x.shape[-1:])

    return jnp.where(jax.vmap(jax.vmap(kept))(drawn.samples, drawn.positions), x / (1 - share), 0).astype(x.dtype)
