"""Images of any shape as the image tower has them: they share rows, and each has the positions of its shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrsclip_jax.data.batches.image_rows import ImageRows
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.models.pixels import normalise
from lrsclip_jax.models.positions import angles_at, antialiased
from lrsclip_jax.sharding import BATCH, constrain


def image_rows(tower: Any) -> ImageRows:
    """Returns the rows of a `vit.ViT` that images of any shape share: the largest has one to itself."""
    most = tower.first_patch + (tower.size // tower.patch) ** 2
    return ImageRows(tower.patch, tower.first_patch, most + -most % tower.token_multiple)


class PackedImages(NamedTuple):
    """Images laid end to end in R rows of N slots, in G groups of R/G consecutive rows, as texts are (`packed.Packed`).

    Each begins with the slots of its class token and registers; its patches follow, row by row.

    Attributes:
      patches: float [R, N, patch·patch·C], normalised; at other slots of any value.
      segments: int32 [R, N], which image of its row a slot belongs to, from 1 on; 0 where it is empty.
      positions: int32 [R, N], of each token in its image, from 0 on.
      grids: int32 [R, N, 2], in how many rows and columns of patches that image is seen; 1 where a slot is empty.
      spans: int32 [G, T, 2], start and length of every image in the R/G·N slots of its group; length 0 for none.
    """

    patches: jax.Array
    segments: jax.Array
    positions: jax.Array
    grids: jax.Array
    spans: jax.Array


def packed_images(batch: Mapping[str, jax.Array], preprocessing: Preprocessing, groups: int) -> PackedImages:
    """Returns the images of a batch, arrays of `image_rows.ImageRows.shared`, whose pixels are normalised."""
    patches = batch["patches"]
    pixels = normalise(patches.reshape(*patches.shape[:2], -1, preprocessing.channels), preprocessing)
    return PackedImages(
        pixels.reshape(patches.shape),
        batch["image_segments"],
        batch["image_positions"],
        batch["image_grids"],
        batch["image_span"].reshape(groups, -1, 2),
    )


def positions_at(table: jax.Array, patch: jax.Array, grids: jax.Array) -> jax.Array:
    """Returns the rows that patches have in a table of positions that is resized to the grid of their image.

    By the antialiased bicubic resize of `positions.resize_positions`, which is torch's `interpolate` and that of timm's
    NaFlex towers; an image of the table's own grid has its rows to the bit.

    Args:
      table: [g·g, W], row by row.
      patch: int [R, N], the number of a patch in its image, row by row; below 0: of any value.
      grids: int [R, N, 2], rows and columns of that image.

    Returns:
      fp32 [R, N, W].
    """
    side = round(len(table) ** 0.5)
    rows, columns = (antialiased(*each, side) for each in _places(patch, grids))
    weights = (rows[..., :, None] * columns[..., None, :]).reshape(*patch.shape, side * side)
    return jnp.matmul(weights, table, precision=jax.lax.Precision.HIGHEST)


def rotary_at(patch: jax.Array, grids: jax.Array, head_width: int, base: float) -> jax.Array:
    """Returns the angles of `positions.rotary_angles` for patches of images of any grid: fp32 [R, N, head_width/2].

    `patch` and `grids` are as for `positions_at`; the angles are 0 where a slot has no patch.
    """
    centres = jnp.stack([2 * (place + 0.5) / count - 1 for place, count in _places(patch, grids)], axis=-1)
    angles = angles_at(centres[..., None], head_width, base).reshape(*patch.shape, -1)
    return jnp.where(patch[..., None] < 0, 0.0, angles)


def _places(patch: jax.Array, grids: jax.Array) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """Row and column of each patch, each with how many there are."""
    rows, columns = grids[..., 0], grids[..., 1]
    patch = jnp.maximum(patch, 0)
    return (patch // columns, rows), (patch % columns, columns)


def patches_of_each(hidden: jax.Array, spans: jax.Array, first: int, most: int) -> tuple[jax.Array, jax.Array]:
    """Returns the patches of each image in a row of its own: [G·T, most, width], and which are some, bool [G·T, most].

    Args:
      hidden: [R, N, width], the tokens of the shared rows.
      spans: of the images, as in `PackedImages`.
      first: how many tokens of an image stand before its patches.
      most: patches of an image.
    """
    groups = constrain(hidden.reshape(len(spans), -1, hidden.shape[-1]), BATCH)
    patch = jnp.arange(most)
    slots = (spans[..., :1] + first + patch).reshape(len(spans), -1)
    found = jnp.take_along_axis(groups, slots[..., None], axis=1, mode="clip")
    seen = patch < spans[..., 1:] - first
    return found.reshape(-1, most, hidden.shape[-1]), seen.reshape(-1, most)
