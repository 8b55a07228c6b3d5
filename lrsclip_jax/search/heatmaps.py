"""Heat maps of hits: where within a tile the query is, as the patches of the image tower see it."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from eval.selo.maps import overlay
from lrsclip_jax.errors import InputError
from lrsclip_jax.search.hits import Hit, Hits
from lrsclip_jax.search.index import Index

BEST = 12  # hits that `lrsclip search --heatmap` draws
_SIDE = 768  # pixels of a picture, at most


def heat_pictures(index: Index, hits: Hits, chosen: Iterable[Hit]) -> tuple[dict[int, np.ndarray], list[str]]:
    """Returns hits as pictures under their heat maps, by row, and a note for each scene that can't be read.

    The heat of a patch is the cosine of its value row with the query, less that with neutral ones, see
    `localise.heatmap`. All maps have one scale: a tile that holds little of what was asked stays blue.

    Args:
      index: that was asked.
      hits: of one query.
      chosen: those of the hits to draw.

    Returns:
      uint8 [H, W, 3] by row of the index, and notes.
    """
    from lrsclip_jax.localise.heatmap import heat  # imports JAX

    if bands := index.model.preprocessing.bands:
        return {}, [f"no heat maps: they are drawn of RGB, and the model reads bands {', '.join(bands)}"]
    pixels: dict[int, np.ndarray] = {}
    notes: dict[str, None] = {}
    for hit in chosen:
        try:
            pixels[hit.row] = index.pixels(hit.row, _SIDE)
        except InputError as error:
            notes[f"no heat map of {hit.scene}: {error}"] = None
    if not pixels or hits.contrast is None:
        return {}, list(notes)
    patches = index.patches(_square(image) for image in pixels.values())
    warm = heat(patches, hits.contrast[None].astype(np.float32))[:, 0]
    low, high = float(warm.min()), float(warm.max())
    scaled = np.rint((warm - low) / max(high - low, 1e-9) * 255).astype(np.uint8)
    pictures = {}
    for (row, image), grey in zip(pixels.items(), scaled, strict=True):
        drawn = cv2.resize(grey, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        pictures[row] = overlay(image, drawn)
    return pictures, list(notes)


def _square(image: np.ndarray) -> np.ndarray:
    """The whole image as a square: the tower would see the central square alone."""
    side = max(image.shape[:2])
    return image if image.shape[0] == image.shape[1] else cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
