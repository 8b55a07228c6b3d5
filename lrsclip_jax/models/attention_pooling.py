"""SigLIP's head: a learnt query attends to all tokens, and an MLP follows (multi-head attention pooling, MAP)."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import normal

from lrsclip_jax.models.attention import attention
from lrsclip_jax.models.layers import MLP, cast_and_gather, layer_norm
from lrsclip_jax.sharding import BATCH, constrain


class AttentionPooling(nn.Module):
    """Tokens [B, N, width] -> fp32 [B, width], the head of SigLIP's image tower (arXiv 2106.04560, 2303.15343).

    The probe is the one query of an attention over the tokens; then x + mlp(norm(x)). Parameters: `probe` [width],
    `qkv` and `out` as those of `layers.Attention`, `norm`, `mlp`.
    """

    width: int
    heads: int
    mlp_width: int
    activation: str
    norm_eps: float
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.probe = self.param("probe", normal(self.width**-0.5), (self.width,))
        self.qkv = nn.DenseGeneral(
            (3, self.heads, self.width // self.heads),
            dtype=self.dtype,
            kernel_init=normal(self.width**-0.5),
            promote_dtype=cast_and_gather(None, None, "tensor", None),
        )
        self.out = nn.DenseGeneral(
            self.width,
            axis=(-2, -1),
            dtype=self.dtype,
            kernel_init=normal(self.width**-0.5),
            promote_dtype=cast_and_gather("tensor", None, None),
        )
        self.norm = layer_norm(self.norm_eps)
        self.mlp = MLP(self.mlp_width, self.activation, depth=1, dtype=self.dtype)

    def __call__(self, tokens: jax.Array, seen: jax.Array | None = None) -> jax.Array:
        """Pools the tokens that are `seen`, bool [B, N], of which the first is one; None: all."""
        probe = jnp.broadcast_to(self.probe, (tokens.shape[0], 1, self.width))
        q, k, v = self._parts(jnp.concatenate([probe, tokens], axis=1))
        return self._read(attention(q[:, :1], k[:, 1:], v[:, 1:], False, seen, implementation="xla"))[:, 0]

    def alone(self, tokens: jax.Array) -> jax.Array:
        """What the head makes of each token as if it were the only one: [B, N, width] -> fp32 [B, N, width]."""
        return self._read(self._parts(tokens)[2])

    def _parts(self, tokens: jax.Array) -> jax.Array:
        parts = self.qkv(constrain(tokens.astype(self.dtype), BATCH))
        return jnp.moveaxis(constrain(parts, BATCH, None, None, "tensor", None), -3, 0)

    def _read(self, mixed: jax.Array) -> jax.Array:
        x = self.out(mixed).astype(jnp.float32)
        return x + self.mlp(self.norm(x)).astype(jnp.float32)
