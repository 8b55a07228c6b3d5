"""Patch dropout: which patches of each image a training step keeps (FLIP, arXiv 2212.00794)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lrsclip_jax.models.vit import ViT
from lrsclip_jax.sharding import BATCH, constrain


def kept_patches(tower: ViT, seed: int, step: jax.Array, images: int) -> jax.Array:
    """Draws the patches of each image that a step keeps: int32 [images, kept], increasing.

    A draw follows from `seed`, `step` and the image's place in the global batch, so devices, microbatches and restarts
    do not change it. Of P patches all but round(patch_dropout·P) are kept; the class token is none of them.

    Args:
      tower: the image tower, of which `patch_dropout` and the number of patches are read.
      seed: `config.seed`.
      step: int32, the batches done.
      images: in the global batch.
    """
    patches = (tower.size // tower.patch) ** 2
    kept = patches - round(tower.patch_dropout * patches)
    of_step = jax.random.fold_in(jax.random.key(seed), step)

    def draw(image: jax.Array) -> jax.Array:
        return jnp.sort(jax.random.permutation(jax.random.fold_in(of_step, image), patches)[:kept])

    return constrain(jax.vmap(draw)(jnp.arange(images)), BATCH)
