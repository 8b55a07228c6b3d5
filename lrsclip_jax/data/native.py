"""Images of any shape: how many patches of a budget an image gets, and its pixels cut into them."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np


def grid_of(height: int, width: int, patch: int, budget: int, least: int | None = None) -> tuple[int, int]:
    """Returns in how many rows and columns of patches an image is seen: rows · columns ≤ `budget`.

    That is ⌈s·height/patch⌉ and ⌈s·width/patch⌉ for a scale s. Without `least` s is the largest that the budget allows:
    SigLIP 2's NaFlex (arXiv 2502.14786), whose code finds it by bisection to 1e-5, and this one exactly. With `least`
    images are shrunk to the budget, but enlarged to `least` patches at most, as NaViT does (arXiv 2307.06304): with 1
    none is enlarged.

    Args:
      height, width: of the image in pixels.
      patch: side of a patch in pixels.
      budget: the most patches.
      least: None, or the patches to which a small image is enlarged, from 1 to `budget`.
    """
    if least is not None:
        own = -(-height // patch), -(-width // patch)
        if own[0] * own[1] < least:
            return _filling(height, width, least)
        if own[0] * own[1] <= budget:
            return own
    return _filling(height, width, budget)


def _filling(height: int, width: int, budget: int) -> tuple[int, int]:
    # The largest scale makes one side a whole number of patches: for each side the most that it may have.
    rows = _most(height, width, budget)
    columns = _most(width, height, budget)
    if rows * width >= columns * height:
        return rows, -(-rows * width // height)
    return -(-columns * height // width), columns


def _most(side: int, other: int, budget: int) -> int:
    """The most patches of a side that leave the other one enough; 0 where none does, of a long thin image."""
    return bisect_right(range(1, budget + 1), budget, key=lambda count: count * -(-count * other // side))


def cut(pixels: np.ndarray, patch: int) -> np.ndarray:
    """Returns pixels [rows·patch, columns·patch, C] as patches, row by row: [rows·columns, patch·patch·C]."""
    height, width, channels = pixels.shape
    parts = pixels.reshape(height // patch, patch, width // patch, patch, channels)
    return parts.swapaxes(1, 2).reshape(-1, patch * patch * channels)
