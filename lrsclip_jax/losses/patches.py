"""The patch term: regions of images are to look the same within their image and as crops of it (FarSLIP)."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def region_loss(region: jax.Array, crop: jax.Array) -> jax.Array:
    """Returns the mean over a batch of 1 − cos(region, crop), a float32 scalar (FarSLIP, arXiv 2511.14901).

    Both sides learn, as in the recipe that FarSLIP released: the model is its own teacher, and the contrastive terms
    keep all rows from becoming one. Every image counts, with or without texts.

    Args:
      region: float32 [B, E], unit rows of the patches of a region (`models.regions.encode_regions`).
      crop: float32 [B, E], unit rows of the same region, cut out and encoded by itself.
    """
    return jnp.square(region - crop).sum(axis=-1).mean() / 2  # of unit rows; 1 − cos would lose digits near 0
