"""Heat maps: how well each patch of an image matches a text (LRSCLIP, Fig. 2).

A patch's heat is the cosine of its value row (`models.patches.patch_values`) with the text, less the mean of its
cosines with texts that name nothing, so that what every text shares is taken off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from lrsclip_jax.data.parallel import in_threads
from lrsclip_jax.data.preprocessing import preprocess
from lrsclip_jax.encoders import embed, fed
from lrsclip_jax.errors import InputError
from lrsclip_jax.models.patches import patch_values
from lrsclip_jax.models.pixels import normalise
from lrsclip_jax.models.positions import resize_positions
from lrsclip_jax.models.precision import exactly
from lrsclip_jax.pretrained import Pretrained, as_seen

NEUTRAL = (
    "a satellite photo.",
    "a satellite image.",
    "an aerial photo.",
    "an aerial image.",
    "a satellite photo of a place.",
    "an aerial image of the ground.",
    "a photo of an area seen from above.",
    "a remote sensing image of a region.",
    "there is a place.",
    "this is an area.",
    "many things are in an area.",
    "something is near something.",
    "a piece of land.",
    "a photo.",
    "an image.",
    "a picture.",
)
PATCHES = 24  # a side: of 8, 12, 16, 24 and 32 the best for a tower trained on 8, see benchmarks/README.md


def text_directions(model: Pretrained, texts: Iterable[str], neutral: Iterable[str] = NEUTRAL) -> np.ndarray:
    """Returns what heat is measured along, float32 [T, E]: the rows of texts less the mean row of neutral ones."""
    neutral = list(neutral)
    rows = model.texts(texts)
    return rows - model.texts(neutral).mean(axis=0) if neutral else rows


def heat(patches: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Returns the heat of patches, float32 [N, g, g, E], along directions, [T, E]: float32 [N, T, g, g]."""
    return np.moveaxis(patches @ directions.T, -1, 1)


def patch_encoder(
    model: Pretrained, size: int | None = None, batch_size: int = 8
) -> Callable[[Iterable[np.ndarray]], np.ndarray]:
    """Returns the function from images to the unit rows of their patches, float32 [N, g, g, E].

    Images are uint8 [H, W, 3] RGB, or of the bands that the model reads; their central square counts.

    Args:
      model: whose image tower is asked.
      size: side of the images that it sees, a multiple of the patch, to which the table of positions is resized
        (bicubic). None: 24 patches, or as many as the tower was trained on where they are more.
      batch_size: images at once, on each local device.

    Raises:
      InputError: a size that is no multiple of the patch.
    """
    tower = model.clip.image
    size = size or max(tower.size, PATCHES * tower.patch)
    if size < tower.patch or size % tower.patch:
        raise InputError(f"heat maps at {size} pixels: the size must be a multiple of the tower's patch, {tower.patch}")
    grid = size // tower.patch
    preprocessing = model.preprocessing.squares().at(size)
    params = dict(model.params["image"])
    if size != tower.size and "position_embedding" in params:  # rotary positions are of any size
        params["position_embedding"] = resize_positions(params["position_embedding"], grid, antialias=size < tower.size)
    tower = tower.clone(size=size)
    encode = fed(lambda params, pixels: patch_values(tower, params, normalise(pixels, preprocessing)), model.mesh)

    def prepare(image: np.ndarray) -> np.ndarray:
        return preprocess(as_seen(image, preprocessing), preprocessing)

    def patches(images: Iterable[np.ndarray]) -> np.ndarray:
        with exactly(tower.dtype):
            rows = embed(encode, params, in_threads(prepare, images), batch_size * model.mesh.size)
        return rows.reshape(len(rows), grid, grid, -1)

    return patches
