"""The text tower: CLIP's causal Transformer over token ids, of any context length."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import normal

from lrsclip_jax.errors import InputError
from lrsclip_jax.models.adapt_rules import Adapt
from lrsclip_jax.models.layers import (
    check_frozen_positions,
    check_heads,
    exact_dense,
    freeze_rows,
    layer_norm,
    position_rows,
    tower_blocks,
)
from lrsclip_jax.models.packed import Packed, at_slots
from lrsclip_jax.sharding import BATCH, constrain, gathered


class TextTransformer(nn.Module):
    """Causal Transformer: ids int32 [B, L ≤ context_length] -> fp32 rows [B, embed_dim], not yet unit.

    A text runs at its own length L with the first L rows of the position table, and is pooled at its FIRST
    end-of-text token; tokens after it have no influence. Every row must hold one (the tokenizer sees to
    it). A text longer than `context_length` is an InputError; an id outside the vocabulary gives NaN. Several texts may
    share a row (`packed_features`): each has the positions and sees the tokens that it would alone.

    The first `frozen_positions` rows of the table receive no gradient (LRSCLIP and Long-CLIP freeze the 20 rows that
    stretching keeps); the optimizer leaves decay and momentum off them. `keep` and `ratio` say how a shorter pretrained
    table is stretched (`positions.stretch_positions`); they do not change what the tower computes.

    Initialisation as CLIP's: tokens normal with standard deviation 0.02, positions 0.01, projection width^-½,
    blocks as `layers.Block` says, norms are the identity.
    """

    vocab_size: int = 49408
    context_length: int = 77
    width: int = 512
    layers: int = 12
    heads: int = 8
    embed_dim: int = 512
    mlp_width: int | None = None  # None: four times the width
    norm_eps: float = 1e-5
    activation: str = "quick_gelu"
    end_token: int = 49407
    frozen_positions: int = 0
    keep: int = 20
    ratio: int | None = None
    remat: str = "dense"  # what the blocks store for the backward pass, see layers.remat_policy
    attention: str = "auto"  # who computes it, see attention.attention
    unroll: int = 1  # blocks that are written out in one round of their scan
    products: str = "float"  # in what dense layers of the blocks are computed, see products.dot_general
    adapt: Adapt = ()  # adapters in the blocks, see adapt_rules.resolved
    dtype: Any = jnp.float32  # of the blocks; parameters, norms, softmax and projection are fp32

    def setup(self) -> None:
        check_heads(self, "text")
        check_frozen_positions(self)
        self.token_embedding = self.param("token_embedding", normal(0.02), (self.vocab_size, self.width))
        self.position_embedding = self.param("position_embedding", normal(0.01), (self.context_length, self.width))
        self.blocks = tower_blocks(self, causal=True)
        self.final_norm = layer_norm(self.norm_eps)
        self.projection = exact_dense(self.embed_dim, self.width)

    def hidden(self, ids: jax.Array, shifts: jax.Array | None = None) -> jax.Array:
        """All tokens after the last block, before `final_norm`: [B, L, width]; `shifts` as of `position_rows`."""
        length = ids.shape[1]
        if length > self.context_length:
            raise InputError(
                f"text tower: texts are {length} tokens long, the context length is "
                f"{self.context_length}; truncate them or stretch the position table"
            )
        return self._through_blocks(ids, position_rows(self._positions(), length, shifts), None)

    def pooled(self, hidden: jax.Array, ids: jax.Array) -> jax.Array:
        """[B, L, width] and ids [B, L] -> fp32 [B, width]: the first end-of-text token after `final_norm`."""
        end = jnp.argmax(ids == self.end_token, axis=1)
        return self.final_norm(jnp.take_along_axis(hidden, end[:, None, None], axis=1)[:, 0])

    def features(self, ids: jax.Array) -> jax.Array:
        """The encoder's features, before the projection: fp32 [B, width]."""
        return self.pooled(self.hidden(ids), ids)

    def packed_features(self, packed: Packed) -> jax.Array:
        """The features of texts that share rows: fp32 [G, T, width]; those of a span of length 0 mean nothing."""
        positions = jnp.take(self._positions(), packed.positions, axis=0)
        hidden = self._through_blocks(packed.ids, positions, packed.segments)
        ends = jnp.maximum(packed.spans[..., 0] + packed.spans[..., 1] - 1, 0)
        return self.final_norm(at_slots(hidden, ends))

    def lengths(self, ids: jax.Array) -> jax.Array:
        """[B, L] -> int32 [B]: the tokens of each text, without its padding."""
        return jnp.argmax(ids == self.end_token, axis=1) + 1

    def _positions(self) -> jax.Array:
        return freeze_rows(self.position_embedding, self.frozen_positions)

    def _through_blocks(self, ids: jax.Array, positions: jax.Array, segments: jax.Array | None) -> jax.Array:
        tokens = jnp.take(gathered(self.token_embedding), ids, axis=0)
        x, _ = self.blocks(constrain((tokens + positions).astype(self.dtype), BATCH), segments)
        return x

    def tokens(self, hidden: jax.Array) -> jax.Array:
        """Every token after `final_norm` and projection: [B, L, width] -> fp32 [B, L, embed_dim]."""
        return self.projection(self.final_norm(hidden))

    def __call__(self, ids: jax.Array) -> jax.Array:
        return self.projection(self.features(ids))
