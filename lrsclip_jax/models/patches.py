"""What each patch of an image says by itself, in the space where images meet texts: the stuff of heat maps."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from lrsclip_jax.models.clip import unit
from lrsclip_jax.models.layers import layer_norm
from lrsclip_jax.models.vit import ViT


def patch_values(tower: ViT, params: Any, images: jax.Array) -> jax.Array:
    """Unit rows of patches by the value path of the last block, after MaskCLIP (Zhou et al., ECCV 2022).

    There a token answers with its own value: first norm, value projection, output projection, without the queries
    and keys that would mix it with the others, without the residual stream and the MLP. What follows is the way of
    the pooled token: `post_norm` and projection. The blocks before are as ever, so a patch knows its surroundings.

    Args:
      tower: the image tower; one with `size` other than the trained one takes a resized table of positions.
      params: its parameters.
      images: float [B, size, size, 3], normalised with the model's mean and standard deviation.

    Returns:
      fp32 [B, patches, embed_dim], row by row.
    """
    last = jax.tree.map(lambda leaf: leaf[-1], params["blocks"])
    silenced = {"params": params | {"blocks": _silenced(params["blocks"])}}
    hidden: Any = tower.apply(silenced, images, method="hidden")
    hidden = layer_norm(tower.norm_eps).apply({"params": last["norm1"]}, hidden[:, 1:])
    hidden = hidden.astype(tower.dtype)
    attention = jax.tree.map(lambda leaf: leaf.astype(tower.dtype), last["attention"])
    values = jnp.einsum("bnw,whd->bnhd", hidden, attention["qkv"]["kernel"][:, 2]) + attention["qkv"]["bias"][2]
    values = jnp.einsum("bnhd,hdw->bnw", values, attention["out"]["kernel"]) + attention["out"]["bias"]
    tokens: Any = tower.apply({"params": params}, values, method="tokens")
    return unit(tokens)


def _silenced(blocks: Any) -> Any:
    """Stacked parameters of blocks of which the last one adds nothing to what it is given."""
    silent = jax.tree.map(
        lambda leaf: jnp.asarray(leaf).at[-1].set(0), (blocks["attention"]["out"], blocks["mlp"]["fc2"])
    )
    return blocks | {"attention": blocks["attention"] | {"out": silent[0]}, "mlp": blocks["mlp"] | {"fc2": silent[1]}}
