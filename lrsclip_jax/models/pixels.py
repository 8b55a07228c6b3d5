"""Pixels as the image tower wants them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lrsclip_jax.data.images import Preprocessing


def normalise(pixels: jax.Array, preprocessing: Preprocessing) -> jax.Array:
    """Returns uint8 [..., 3] as float32, scaled to 0 … 1, minus the checkpoint's mean and divided by its std."""
    mean = jnp.asarray(preprocessing.mean, jnp.float32)
    std = jnp.asarray(preprocessing.std, jnp.float32)
    return (pixels.astype(jnp.float32) / 255 - mean) / std
