"""The second text tower: BERT, in which every token sees the whole text."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import normal

from lrsclip_jax.errors import InputError
from lrsclip_jax.models.adapt_rules import Adapt
from lrsclip_jax.models.layers import (
    MLP,
    Attention,
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


class PostNormBlock(nn.Module):
    """Transformer block with the norms after its sums: [B, N, width], segments [B, N] -> ([B, N, width], None).

    `norm1` follows attention, `norm2` the MLP. Kernels start as `layers.Block` says.
    """

    heads: int
    depth: int
    mlp_width: int
    activation: str
    norm_eps: float
    attention: str = "auto"
    products: str = "float"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, segments: jax.Array) -> tuple[jax.Array, None]:
        x = constrain(x, BATCH)
        how = {"depth": self.depth, "products": self.products, "dtype": self.dtype}
        attend = Attention(self.heads, causal=False, implementation=self.attention, name="attention", **how)
        mlp = MLP(self.mlp_width, self.activation, name="mlp", **how)
        x = layer_norm(self.norm_eps, name="norm1")(x + attend(x, segments))
        x = layer_norm(self.norm_eps, name="norm2")(x + mlp(x))
        return x.astype(self.dtype), None


class Bert(nn.Module):
    """BERT (arXiv 1810.04805): ids int32 [B, L ≤ context_length] -> fp32 rows [B, embed_dim], not yet unit.

    A row is [CLS], the text, [SEP], and then padding, which no token sees; a row of padding alone gives finite values
    that mean nothing. All tokens are of type 0. A text longer than `context_length` is an InputError; an id outside the
    vocabulary gives NaN. Several texts may share a row (`packed_features`): each has the positions and sees the tokens
    that it would alone.

    RSCLIP says "BERT-base" and no more. Two things are left open, and chosen here:

    - `pool`: a text's features are its [CLS] token through BERT's pooler, a dense layer and tanh ("pooler", the
      default: transformers' dual encoders do so, and a trained model can be exported to them), or that token itself
      ("cls").
    - `positions`: which rows pretrained weights bring when their table has another length: the first `context_length`
      ("native", the default: BERT learnt 512), or as CLIP's, the first 77 rows stretched from row `keep` on, by
      `ratio` ("stretched": 77 become 248). None of the three changes what the tower computes.

    The first `frozen_positions` rows of the table receive no gradient, as in `text.TextTransformer`. Embeddings start
    normal with standard deviation 0.02 and norms as the identity, as in BERT; blocks as `layers.Block` says.
    """

    vocab_size: int = 30522
    context_length: int = 248
    width: int = 768
    layers: int = 12
    heads: int = 12
    embed_dim: int = 512
    mlp_width: int | None = None  # None: four times the width
    norm_eps: float = 1e-12
    activation: str = "gelu"
    pool: str = "pooler"
    positions: str = "native"
    pad_token: int = 0
    frozen_positions: int = 0
    keep: int = 20
    ratio: int | None = None
    remat: str = "dense"  # what the blocks store for the backward pass, see layers.remat_policy
    attention: str = "auto"  # who computes it, see attention.attention
    unroll: int = 1  # blocks that are written out in one round of their scan
    products: str = "float"  # in what dense layers of the blocks are computed, see products.dot_general
    adapt: Adapt = ()  # adapters in the blocks, see adapt_rules.resolved
    dtype: Any = jnp.float32  # of the blocks; parameters, norms, softmax, pooler and projection are fp32

    def setup(self) -> None:
        check_heads(self, "text")
        for field, known in (("pool", ("pooler", "cls")), ("positions", ("native", "stretched"))):
            if getattr(self, field) not in known:
                raise InputError(f"text tower: {field} is {getattr(self, field)!r}, must be {' or '.join(known)}")
        check_frozen_positions(self)
        init = normal(0.02)
        self.token_embedding = self.param("token_embedding", init, (self.vocab_size, self.width))
        self.position_embedding = self.param("position_embedding", init, (self.context_length, self.width))
        # The second type marks the second of two sentences; it is kept for the sake of exports.
        self.type_embedding = self.param("type_embedding", init, (2, self.width))
        self.embedding_norm = layer_norm(self.norm_eps)
        self.blocks = tower_blocks(self, PostNormBlock)
        if self.pool == "pooler":
            self.pooler = exact_dense(self.width, self.width, use_bias=True)
        self.projection = exact_dense(self.embed_dim, self.width)

    def hidden(self, ids: jax.Array, shifts: jax.Array | None = None) -> jax.Array:
        """All tokens after the last block: [B, L, width]; `shifts` as in `layers.position_rows`."""
        length = ids.shape[1]
        if length > self.context_length:
            raise InputError(
                f"text tower: texts are {length} tokens long, the context length is "
                f"{self.context_length}; truncate them or take more positions"
            )
        # Padding begins where the text ends: a pad token within the text would be seen.
        segments = jnp.arange(length) < self.lengths(ids)[:, None]
        return self._through_blocks(ids, position_rows(self._positions(), length, shifts), segments)

    def pooled(self, hidden: jax.Array, ids: jax.Array) -> jax.Array:
        """[B, L, width] -> fp32 [B, width]: the first token, as `pool` says; `ids` do not matter here."""
        return self._read(hidden[:, 0])

    def features(self, ids: jax.Array) -> jax.Array:
        """The encoder's features, before the projection: fp32 [B, width]."""
        return self.pooled(self.hidden(ids), ids)

    def packed_features(self, packed: Packed) -> jax.Array:
        """The features of texts that share rows: fp32 [G, T, width]; those of a span of length 0 mean nothing."""
        positions = jnp.take(self._positions(), packed.positions, axis=0)
        hidden = self._through_blocks(packed.ids, positions, packed.segments)
        return self._read(at_slots(hidden, packed.spans[..., 0]))

    def lengths(self, ids: jax.Array) -> jax.Array:
        """[B, L] -> int32 [B]: the tokens of each text, without its padding; 1 where there is no text."""
        return jnp.maximum(jnp.sum(ids != self.pad_token, axis=1), 1)

    def _positions(self) -> jax.Array:
        return freeze_rows(self.position_embedding, self.frozen_positions)

    def _through_blocks(self, ids: jax.Array, positions: jax.Array, segments: jax.Array) -> jax.Array:
        tokens = jnp.take(gathered(self.token_embedding), ids, axis=0)
        x = self.embedding_norm(tokens + positions + self.type_embedding[0])
        x, _ = self.blocks(constrain(x.astype(self.dtype), BATCH), segments)
        return x

    def _read(self, first: jax.Array) -> jax.Array:
        """The features of a text from its first token, as `pool` says: fp32 [..., width]."""
        first = first.astype(jnp.float32)
        return jnp.tanh(self.pooler(first)) if self.pool == "pooler" else first

    def tokens(self, hidden: jax.Array) -> jax.Array:
        """Every token after the projection: [B, L, width] -> fp32 [B, L, embed_dim]."""
        return self.projection(hidden)

    def __call__(self, ids: jax.Array) -> jax.Array:
        return self.projection(self.features(ids))
