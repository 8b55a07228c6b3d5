"""Pixels as the image tower wants them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from lrsclip_jax.data.preprocessing import Preprocessing


def of_words(words: jax.Array, size: int, channels: int, dtype: Any) -> jax.Array:
    """Returns images [B, S, S, C] of a dtype on the device, of their uint32 words [B, words] in host memory."""
    words = jax.device_put(words, jax.memory.Space.Device)
    return jax.lax.bitcast_convert_type(words, dtype).reshape(len(words), size, size, channels)


def turned(images: jax.Array, turns: jax.Array) -> jax.Array:
    """Returns square images [B, S, S, C] turned as `turns`, int [B], say: numbers of `data.directions`."""

    def where(bit: int, changed: jax.Array, images: jax.Array) -> jax.Array:
        return jnp.where((turns & bit > 0)[:, None, None, None], changed, images)

    images = where(1, images.swapaxes(1, 2), images)
    images = where(2, images[:, :, ::-1], images)
    return where(4, images[:, ::-1], images)


def normalise(pixels: jax.Array, preprocessing: Preprocessing) -> jax.Array:
    """Returns pixels [..., C] as float32, divided by their scale, minus the checkpoint's mean, divided by its std."""
    mean = jnp.asarray(preprocessing.mean, jnp.float32)
    std = jnp.asarray(preprocessing.std, jnp.float32)
    return (pixels.astype(jnp.float32) / preprocessing.scale - mean) / std
