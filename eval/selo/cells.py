"""Images made of cells: between two neighbouring edges of windows all pixels are alike, so one value stands for them.

An image of cells is an array [R, C] with the edges of its cells in pixels, ascending from 0: int64 [R + 1], [C + 1].
"""

from __future__ import annotations

import numpy as np


def average(scores: np.ndarray, windows: np.ndarray, height: int, width: int) -> tuple[np.ndarray, ...]:
    """Returns the mean score of the windows over each cell of a scene.

    Args:
      scores: finite, float64 [N].
      windows: within the scene, int64 [N, 4] of r0, r1, c0, c1.
      height, width: of the scene, in pixels.

    Returns:
      The means, float64 [R, C], NaN where there is no window; the edges of rows and of columns of cells.
    """
    rows = np.union1d(windows[:, :2], [0, height])
    columns = np.union1d(windows[:, 2:], [0, width])
    total, count = np.zeros((2, len(rows) - 1, len(columns) - 1))
    spans = np.concatenate([np.searchsorted(rows, windows[:, :2]), np.searchsorted(columns, windows[:, 2:])], axis=1)
    for (r0, r1, c0, c1), score in zip(spans.tolist(), scores.tolist(), strict=True):
        total[r0:r1, c0:c1] += score  # in the order of the windows: the last bits of a float64 sum depend on it
        count[r0:r1, c0:c1] += 1
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0), rows, columns


def to_grey(means: np.ndarray) -> np.ndarray:
    """Returns finite values scaled from 0 to 255 and cut, not rounded, to uint8; values all equal become 0."""
    above = means - means.min()
    top = above.max()
    return (255 * (above / top)).astype(np.uint8) if top > 0 else np.zeros(means.shape, np.uint8)


def expand(cells: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Returns the image [H, W] of cells [R, C]."""
    return np.repeat(np.repeat(cells, np.diff(columns), axis=1), np.diff(rows), axis=0)
