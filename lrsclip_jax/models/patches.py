"""Embeddings of single patches in the space of images and texts, from which heat maps are made."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from lrsclip_jax.models.clip import unit
from lrsclip_jax.models.layers import layer_norm
from lrsclip_jax.models.resnet import ResNet
from lrsclip_jax.models.vit import ViT
from lrsclip_jax.sharding import gathered


def patch_values(tower: ViT | ResNet, params: Any, images: jax.Array) -> jax.Array:
    """Unit rows of patches by the value path of the last block: `value_tokens`.

    Of a ResNet each cell of the last feature map passes the value layer of the head and the projection, without its
    position, as in MaskCLIP's code.

    Args:
      tower: the image tower; one with `size` other than the trained one takes a resized table of positions.
      params: its parameters.
      images: float [B, size, size, 3], normalised with the model's mean and standard deviation.

    Returns:
      fp32 [B, patches, embed_dim], row by row.
    """
    if isinstance(tower, ResNet):
        cells: Any = tower.apply({"params": params}, images, method=lambda tower, x: tower.tokens(tower.cells(x)))
        return unit(cells)
    hidden: Any = tower.apply({"params": params}, images, method="hidden_and_entering")
    return unit(value_tokens(tower, params, hidden[1]))


def value_tokens(tower: ViT, params: Any, entering: jax.Array) -> jax.Array:
    """Patches by the value path of the last block, after MaskCLIP (Zhou et al., ECCV 2022).

    In the last block each patch token is replaced by its value: first norm, value projection and output projection,
    without attention to other tokens, residual stream and MLP. Then it passes `post_norm` and the projection, as the
    pooled token does; SigLIP's head takes it as the only token. Earlier blocks are unchanged, so patches still see
    context.

    Args:
      tower: the image tower.
      params: its parameters.
      entering: [B, first_patch + patches, width], the tokens that enter the last block (`ViT.hidden_and_entering`).

    Returns:
      fp32 [B, patches, embed_dim], row by row, not yet unit.
    """
    last = jax.tree.map(lambda leaf: leaf[-1], params["blocks"])
    hidden: Any = layer_norm(tower.norm_eps).apply({"params": last["norm1"]}, entering[:, tower.first_patch :])
    hidden = hidden.astype(tower.dtype)
    attention = jax.tree.map(lambda leaf: leaf.astype(tower.dtype), last["attention"])
    value = gathered(attention["qkv"]["kernel"][:, 2], (None, "tensor", None))
    out = gathered(attention["out"]["kernel"], ("tensor", None, None))
    values = jnp.einsum("bnw,whd->bnhd", hidden, value) + attention["qkv"]["bias"][2]
    values = jnp.einsum("bnhd,hdw->bnw", values, out) + attention["out"]["bias"]
    tokens: Any = tower.apply({"params": params}, values, method="tokens")
    return tokens
