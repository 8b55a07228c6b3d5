"""Embeddings of single patches in the space of images and texts, from which heat maps are made."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from lrsclip_jax.models.clip import unit
from lrsclip_jax.models.layers import layer_norm
from lrsclip_jax.models.vit import ViT


def patch_values(tower: ViT, params: Any, images: jax.Array) -> jax.Array:
    """Unit rows of patches by the value path of the last block, after MaskCLIP (Zhou et al., ECCV 2022).

    In the last block each patch token is replaced by its value: first norm, value projection and output projection,
    without attention to other tokens, residual stream and MLP. Then it passes `post_norm` and the projection, as the
    pooled token does; SigLIP's head takes it as the only token. Earlier blocks are unchanged, so patches still see
    context.

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
    hidden = layer_norm(tower.norm_eps).apply({"params": last["norm1"]}, hidden[:, tower.first_patch :])
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
