"""The third text tower: SigLIP's, in which every token sees the whole row, its padding included."""

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
    tower_blocks,
)
from lrsclip_jax.models.packed import Packed
from lrsclip_jax.sharding import BATCH, constrain, gathered


class SiglipText(nn.Module):
    """SigLIP's text tower (arXiv 2303.15343): ids int32 [B, L ≤ context_length] -> fp32 rows [B, embed_dim], not unit.

    A row is a text, its end token, and then padding, with which the tower itself fills the row up to its context
    length. It was trained so: all tokens see the padding, and the last token of the row, nearly always padding, is the
    one that is pooled. So every text costs as much as the longest, and texts can't share a row. A text longer than
    `context_length` is an InputError; an id outside the vocabulary gives NaN.

    SigLIP and SigLIP 2 learnt 64 positions. `keep` and `ratio` say how they are stretched: as those of
    `text.TextTransformer`, but the last row, at which texts are pooled, stays the last. The first `frozen_positions`
    rows receive no gradient.

    Initialisation as `text.TextTransformer` has it; the bias of the projection is 0.
    """

    vocab_size: int = 32000
    context_length: int = 64
    width: int = 768
    layers: int = 12
    heads: int = 12
    embed_dim: int = 768
    mlp_width: int | None = None  # None: four times the width
    norm_eps: float = 1e-6
    activation: str = "gelu_tanh"
    pad_token: int = 1
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
        self.blocks = tower_blocks(self, causal=False)
        self.final_norm = layer_norm(self.norm_eps)
        self.projection = exact_dense(self.embed_dim, self.width, use_bias=True)

    def hidden(self, ids: jax.Array, shifts: jax.Array | None = None) -> jax.Array:
        """All tokens after the last block, before `final_norm`: [B, context_length, width]; `shifts` must be None."""
        if shifts is not None:
            raise InputError("text tower: a SigLIP text fills the table of positions, its tokens can't be moved")
        empty = self.context_length - ids.shape[1]
        if empty < 0:
            raise InputError(
                f"text tower: texts are {ids.shape[1]} tokens long, the context length is "
                f"{self.context_length}; truncate them or stretch the position table"
            )
        ids = jnp.pad(ids, ((0, 0), (0, empty)), constant_values=self.pad_token)
        tokens = jnp.take(gathered(self.token_embedding), ids, axis=0)
        positions = freeze_rows(self.position_embedding, self.frozen_positions)
        x, _ = self.blocks(constrain((tokens + positions).astype(self.dtype), BATCH), None)
        return x

    def pooled(self, hidden: jax.Array, ids: jax.Array) -> jax.Array:
        """[B, context_length, width] -> fp32 [B, width]: the last token after `final_norm`; `ids` do not matter."""
        return self.final_norm(hidden[:, -1])

    def features(self, ids: jax.Array) -> jax.Array:
        """The encoder's features, before the projection: fp32 [B, width]."""
        return self.pooled(self.hidden(ids), ids)

    def packed_features(self, packed: Packed) -> jax.Array:
        """Raises InputError: a text fills its row."""
        raise InputError("text tower: a SigLIP text fills its row with padding that it sees: data.packed must be False")

    def lengths(self, ids: jax.Array) -> jax.Array:
        """[B, L] -> int32 [B]: the tokens of each text before its padding; the tower computes `context_length`."""
        return jnp.sum(ids != self.pad_token, axis=1)

    def tokens(self, hidden: jax.Array) -> jax.Array:
        """Every token after `final_norm` and projection: [B, context_length, width] -> fp32 [B, …, embed_dim]."""
        return self.projection(self.final_norm(hidden))

    def __call__(self, ids: jax.Array) -> jax.Array:
        return self.projection(self.features(ids))
