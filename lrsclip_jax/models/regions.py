"""Regions of images: the boxes that are drawn, crops of them, and the patches of the whole image that lie in them."""

from __future__ import annotations

import zlib
from typing import Any

import jax
import jax.numpy as jnp

from lrsclip_jax.models.clip import unit
from lrsclip_jax.models.patches import value_tokens
from lrsclip_jax.models.vit import ViT
from lrsclip_jax.sharding import BATCH, constrain

# Of a box, uniform as FarSLIP has them: its share of the image's area, and the logarithm of its width over its height.
AREA, ASPECT = (0.3, 0.7), (3 / 4, 4 / 3)


def drawn_boxes(seed: int, step: jax.Array, images: int) -> jax.Array:
    """Draws a box in each image of a step: float32 [images, 4], top, left, height and width as shares of the sides.

    A draw follows from `seed`, `step` and the image's place in the global batch, so devices, microbatches and restarts
    do not change it.

    Args:
      seed: `config.seed`.
      step: int32, the batches done.
      images: in the global batch.
    """
    of_step = jax.random.fold_in(jax.random.key(seed), zlib.crc32(b"boxes"))
    of_step = jax.random.fold_in(of_step, step)

    def draw(image: jax.Array) -> jax.Array:
        area, aspect, top, left = jax.random.uniform(jax.random.fold_in(of_step, image), (4,))
        area = AREA[0] + (AREA[1] - AREA[0]) * area
        aspect = ASPECT[0] * (ASPECT[1] / ASPECT[0]) ** aspect
        height, width = jnp.sqrt(area / aspect), jnp.sqrt(area * aspect)
        return jnp.stack([top * (1 - height), left * (1 - width), height, width])

    return constrain(jax.vmap(draw)(jnp.arange(images)), BATCH)


def cut(grids: jax.Array, boxes: jax.Array) -> jax.Array:
    """Returns what lies in a box of each grid, bilinearly enlarged to the whole grid: [B, H, W, C], float.

    A place of the result is read once, in the middle of its part of the box, between the four nearest cells; beyond
    the middle of a cell at the border that cell counts alone. So it is `torchvision.ops.roi_align(aligned=True)` of
    boxes within a grid, at as many places as the grid has.

    Args:
      grids: float [B, H, W, C], pixels or features of patches.
      boxes: float32 [B, 4] of `drawn_boxes`.
    """
    sides = jnp.asarray(grids.shape[1:3], jnp.float32)

    def one(grid: jax.Array, box: jax.Array) -> jax.Array:
        scale = 1 / box[2:]
        return jax.image.scale_and_translate(grid, grid.shape, (0, 1), scale, -box[:2] * sides * scale, "linear")

    return constrain(jax.vmap(one)(grids, boxes), BATCH)


def encode_regions(tower: ViT, params: Any, pixels: jax.Array, boxes: jax.Array) -> dict[str, jax.Array]:
    """Encodes images, and one region of each in two ways (FarSLIP, arXiv 2511.14901).

    Patches are those of which heat maps are made, `patches.value_tokens`. A crop goes through the tower as a further
    image, so the tower encodes twice as many.

    Args:
      tower: the image tower.
      params: its parameters.
      pixels: float [B, size, size, C], normalised.
      boxes: float32 [B, 4] of `drawn_boxes`.

    Returns:
      Unit rows [B, E], fp32: "image", as without boxes; "region", the mean of the image's patches in its box; "crop",
      the mean of all patches of the crop of that box, enlarged to the tower's size.
    """
    both = jnp.stack([pixels, cut(pixels, boxes)], axis=1)  # an image next to its crop: no row changes its device
    hidden: Any = tower.apply({"params": params}, both.reshape(-1, *pixels.shape[1:]), method="hidden_and_entering")
    left = hidden[0].reshape(len(pixels), 2, *hidden[0].shape[1:])
    rows: Any = tower.apply({"params": params}, left[:, 0], method=lambda tower, x: tower.projection(tower.pooled(x)))
    side = tower.size // tower.patch
    patches = value_tokens(tower, params, hidden[1]).reshape(len(pixels), 2, side, side, -1)
    means = [grid.mean(axis=(1, 2)) for grid in (cut(patches[:, 0], boxes), patches[:, 1])]
    return {name: unit(found) for name, found in zip(("image", "region", "crop"), (rows, *means), strict=True)}
