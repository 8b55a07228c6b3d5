"""Layers of the towers: self-attention, the MLP, the pre-norm Transformer block, and the stack of blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax.ad_checkpoint import checkpoint_name
from jax.nn.initializers import normal

from lrsclip_jax.errors import InputError, nearest
from lrsclip_jax.models import lora_dropout, row_attention
from lrsclip_jax.models.adaptation import adapted
from lrsclip_jax.models.attention import PrefixKeys, Rotation, attention, chosen, rotated
from lrsclip_jax.models.precision import dot_general, unstored
from lrsclip_jax.sharding import BATCH, constrain, gathered

ACTIVATIONS = {
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),  # OpenAI's CLIP and the models tuned from it
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "silu": jax.nn.silu,  # of gated MLPs
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),  # SigLIP's
}


def layer_norm(eps: float, name: str | None = None) -> nn.LayerNorm:
    """Layer norm over the last axis, computed and returned in fp32 for any input dtype."""
    # The two-pass variance: E[x²] − E[x]² cancels on the few huge channels of pretrained towers.
    return nn.LayerNorm(epsilon=eps, dtype=jnp.float32, use_fast_variance=False, name=name)


def cast_and_gather(*axes: str | None) -> Callable:
    """Returns a `promote_dtype` for dense layers: casts, and only then makes the kernel whole along `fsdp`.

    In this order half the bytes travel. `axes` are those that still split the kernel's dimensions.
    """

    def promote(inputs: jax.Array, kernel: jax.Array, bias: jax.Array | None, *, dtype: Any) -> tuple:
        inputs, kernel, bias = promote_dtype(inputs, kernel, bias, dtype=dtype)
        return inputs, gathered(kernel, axes), bias

    return promote


def freeze_rows(table: jax.Array, rows: int) -> jax.Array:
    """Returns `table`, whose first `rows` rows receive no gradient."""
    return jnp.concatenate([jax.lax.stop_gradient(table[:rows]), table[rows:]]) if rows else table


def position_rows(table: jax.Array, length: int, shifts: jax.Array | None) -> jax.Array:
    """Returns the rows of a position table for texts of `length` tokens: [length, width], the first ones.

    With `shifts`, int [B], the tokens of each text but its first are moved by that number of rows: [B, length, width].
    Tokens that would leave the table, which are padding, have its last row.
    """
    if shifts is None:
        return table[:length]
    places = jnp.arange(length)
    moved = places + jnp.where(places > 0, shifts[:, None], 0)
    return jnp.take(table, jnp.minimum(moved, len(table) - 1), axis=0)


class Attention(nn.Module):
    """Multi-head self-attention: [B, N, width] -> [B, N, width] in `dtype`.

    Parameters: `qkv/kernel` [width, 3, heads, head width] (query, key, value), `out/kernel`
    [heads, head width, width], and their biases.
    """

    # One fused product for query, key and value keeps the matrix units full at small widths; heads have an axis
    # of their own so that tensor parallelism can split them without cutting through the q | k | v boundary.
    heads: int
    causal: bool
    depth: int
    implementation: str = "auto"
    products: str = "float"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        segments: jax.Array | None = None,
        rotation: Rotation | None = None,
        prefix: PrefixKeys | None = None,
    ) -> jax.Array:
        width = x.shape[-1]
        qkv = nn.DenseGeneral(
            (3, self.heads, width // self.heads),
            dtype=self.dtype,
            kernel_init=normal(width**-0.5),
            promote_dtype=cast_and_gather(None, None, "tensor", None),
            dot_general=dot_general(self.products),
            name="qkv",
        )(x)
        qkv = checkpoint_name(constrain(qkv, BATCH, None, None, "tensor", None), "qkv")
        q, k, v = jnp.moveaxis(qkv, -3, 0)
        if rotation is not None:
            q, k = rotated(q, rotation), rotated(k, rotation)
        way = chosen(self.implementation, q, self.causal, segments, prefix)
        out = nn.DenseGeneral(
            width,
            axis=(-2, -1),
            dtype=self.dtype,
            kernel_init=normal((2 * width * self.depth) ** -0.5),
            promote_dtype=cast_and_gather("tensor", None, None),
            # remat="dense" stores the kernel's result, so it need not store this one, which is as large.
            dot_general=unstored(self.products) if way == "rows" else dot_general(self.products),
            name="out",
        )
        mixed = attention(q, k, v, self.causal, segments, way, prefix)
        return out(checkpoint_name(mixed, "attention"))


class MLP(nn.Module):
    """Two dense layers with an activation between them: [B, N, width] -> [B, N, width] in `dtype`.

    `gated`: the activation is that of a third layer, `gate`, and multiplies the result of the first (arXiv 2002.05202).
    """

    mlp_width: int
    activation: str
    depth: int
    gated: bool = False
    products: str = "float"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]

        def wide(name: str) -> jax.Array:
            dense = nn.Dense(
                self.mlp_width,
                dtype=self.dtype,
                kernel_init=normal((2 * width) ** -0.5),
                promote_dtype=cast_and_gather(None, "tensor"),
                dot_general=dot_general(self.products),
                name=name,
            )
            return checkpoint_name(constrain(dense(x), BATCH, None, "tensor"), "mlp_hidden")

        fc2 = nn.Dense(
            width,
            dtype=self.dtype,
            kernel_init=normal((2 * width * self.depth) ** -0.5),
            promote_dtype=cast_and_gather("tensor", None),
            dot_general=dot_general(self.products),
            name="fc2",
        )
        hidden, activation = wide("fc1"), ACTIVATIONS[self.activation]
        return fc2(activation(wide("gate")) * hidden if self.gated else activation(hidden))


class Block(nn.Module):
    """Pre-norm Transformer block: [B, N, width], segments [B, N] -> ([B, N, width], None), the pair that a scan wants.

    With `rotation` the queries and keys of attention are turned by it, the same in all blocks.

    Kernels start as CLIP's do (`CLIP.initialize_parameters`): normal with standard deviation width^-½ for query,
    key and value, (2·width)^-½ for `fc1`, and (2·width·depth)^-½ for the two that write into the residual
    stream; biases 0. `depth` is the number of blocks in the tower.
    """

    heads: int
    causal: bool
    depth: int
    mlp_width: int
    activation: str
    norm_eps: float
    gated: bool = False
    attention: str = "auto"
    products: str = "float"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, segments: jax.Array | None = None, rotation: Rotation | None = None
    ) -> tuple[jax.Array, None]:
        x = constrain(x, BATCH)
        how = {"depth": self.depth, "products": self.products, "dtype": self.dtype}
        attend = Attention(self.heads, self.causal, implementation=self.attention, name="attention", **how)
        mlp = MLP(self.mlp_width, self.activation, gated=self.gated, name="mlp", **how)
        x = x + attend(layer_norm(self.norm_eps, name="norm1")(x), segments, rotation)
        x = x + mlp(layer_norm(self.norm_eps, name="norm2")(x))
        return x, None


# Values stored for the backward pass, by name; all others are computed again. "dense" keeps results of dense layers:
# against "none" 40 % of the memory, and no slower (two CPU cores, ViT-S/14 and text at 248). "full" keeps only what
# enters each block, for one more forward pass. Where a kernel computes whole rows, "dense" keeps its result and not
# that of `out`: as much memory, and attention is not computed again (benchmarks/README.md, "Bytes of a step on a TPU").
_REMAT = {
    "none": jax.checkpoint_policies.everything_saveable,
    "dense": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
        # With their biases, where something behind them needs these: else these sums are computed and written again.
        jax.checkpoint_policies.save_only_these_names("qkv", "mlp_hidden", row_attention.STORED),
    ),
    "full": jax.checkpoint_policies.nothing_saveable,
}
_NAMES = ("qkv", "attention", "mlp_hidden")


def remat_policy(name: str) -> Any:
    """Returns the policy for `jax.checkpoint` that a tower's `remat` names.

    "none", "dense", "full", or "names:" and any of `qkv`, `attention` (its result, before `out`) and `mlp_hidden`,
    joined by commas: "names:qkv,attention" stores just these. Raises InputError for another name.
    """
    kind, separator, stored = name.partition(":")
    if kind == "names" and separator and set(stored.split(",")) <= set(_NAMES):
        return jax.checkpoint_policies.save_only_these_names(*stored.split(","))
    if name not in _REMAT:
        raise InputError(
            f"remat={name!r} is none of {', '.join(_REMAT)} or names:{','.join(_NAMES)}{nearest(name, _REMAT)}"
        )
    return _REMAT[name]


def stack(depth: int, remat: str, unroll: int, block: type[nn.Module] = Block, **attributes: Any) -> nn.Module:
    """`depth` blocks as one scanned module, every parameter with a leading layer axis.

    Args:
      depth: the number of blocks.
      remat: what they store for the backward pass, see `remat_policy`.
      unroll: how many of them are written out in one round of the scan, from 1 to `depth`.
      block: their class; its arguments after x are the same for all.
      **attributes: those of the class.

    Raises:
      InputError: an unknown `remat`; an `unroll` that is not among 1…depth.
    """
    if not 1 <= unroll <= depth:
        raise InputError(f"unroll is {unroll}, must lie in 1…{depth}, the layers of the tower")
    saving = nn.remat(block, policy=remat_policy(remat), prevent_cse=False)
    scanned = nn.scan(
        saving,
        variable_axes={"params": 0},
        variable_broadcast=lora_dropout.DRAWS,
        split_rngs={"params": True, lora_dropout.KEY: True},
        in_axes=nn.broadcast,
        length=depth,
        unroll=unroll,
    )
    return scanned(depth=depth, **attributes)


def tower_blocks(tower: Any, block: type[nn.Module] = Block, **attributes: Any) -> nn.Module:
    """The stacked blocks of a tower, by its fields; `attributes` are those of the class that no field gives."""
    return stack(
        tower.layers,
        tower.remat,
        tower.unroll,
        adapted(block, tower.adapt),
        heads=tower.heads,
        activation=tower.activation,
        mlp_width=tower.mlp_width or 4 * tower.width,
        norm_eps=tower.norm_eps,
        attention=tower.attention,
        products=tower.products,
        dtype=tower.dtype,
        **attributes,
    )


def exact_dense(features: int, width: int, use_bias: bool = False) -> nn.Dense:
    """A dense layer from `width` to `features` in fp32: a tower's last product is small, and bf16 would round it."""
    return nn.Dense(
        features,
        use_bias=use_bias,
        dtype=jnp.float32,
        precision=jax.lax.Precision.HIGHEST,
        kernel_init=normal(width**-0.5),
        promote_dtype=cast_and_gather(),
    )


def check_heads(tower: Any, role: str) -> None:
    """Raises InputError unless the width of a tower divides into its heads."""
    if tower.width % tower.heads:
        raise InputError(f"{role} tower: width {tower.width} does not divide into {tower.heads} heads")


def check_frozen_positions(tower: Any) -> None:
    """Raises InputError unless a text tower has as many positions as it freezes."""
    if not 0 <= tower.frozen_positions <= tower.context_length:
        raise InputError(
            f"text tower: frozen_positions is {tower.frozen_positions}, "
            f"must lie in 0…{tower.context_length}, the context length"
        )
