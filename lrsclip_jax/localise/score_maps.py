"""Maps of a scene: of the scores of its windows, or of the heat of their patches; reduced where the scene is vast."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from eval.selo import localisation_map
from eval.selo.cells import average, to_grey
from eval.selo.maps import MEDIAN, finite_scores
from eval.selo.median import median

MAP_PIXELS = 2**28  # 16,384 × 16,384: a map of this many bytes
HEAT_PIXELS = 2**26  # of all texts together, in float32


def reduction(height: int, width: int, pixels: int = MAP_PIXELS) -> int:
    """Returns the smallest whole number that divides both sides of a scene so that it fits into `pixels`."""
    factor = math.ceil(math.sqrt(height * width / pixels))
    while math.prod(reduced(height, width, factor)) > pixels:
        factor += 1
    return factor


def reduced(height: int, width: int, factor: int) -> tuple[int, int]:
    """Returns the size of a map of which a pixel is factor × factor pixels of the scene, the last ones maybe fewer."""
    return -(-height // factor), -(-width // factor)


def window_means(
    scores: np.ndarray, windows: np.ndarray, height: int, width: int, factor: int = 1
) -> tuple[np.ndarray, ...]:
    """Returns the mean score of the windows over each cell of a map, and the cells' edges, as `eval.selo.cells`."""
    size = reduced(height, width, factor)
    return average(finite_scores(scores, len(windows)), reduced_windows(windows, factor), *size)


def window_map(
    scores: np.ndarray,
    windows: np.ndarray,
    height: int,
    width: int,
    factor: int = 1,
    shade: Callable[[np.ndarray], np.ndarray] = to_grey,
) -> np.ndarray:
    """Returns the localisation map of `eval.selo`, uint8 [H, W], or its like at a fraction of the scene's size.

    With a factor above 1 windows, image and the side of the median filter are divided by it: the edges of the windows
    fall on whole pixels of the map, a window holding every pixel that it touches.

    Args:
      scores: [N].
      windows: int64 [N, 4], of the scene.
      height, width: of the scene, in pixels.
      factor: see `reduction`.
      shade: from means, [R, C], to uint8.
    """
    if factor == 1 and shade is to_grey:
        return localisation_map(scores, windows, height, width)
    cells, rows, columns = window_means(scores, windows, height, width, factor)
    return median(shade(cells), rows, columns, MEDIAN // factor | 1)


def with_gaps(grey: np.ndarray, missing: np.ndarray | None) -> np.ndarray:
    """Returns a map, uint8 [H, W], that is 0 where the scene has no data, bool [H, W], and at least 1 elsewhere."""
    return grey if missing is None else np.where(missing, 0, np.maximum(grey, 1)).astype(np.uint8)


def reduced_windows(windows: np.ndarray, factor: int) -> np.ndarray:
    """Returns windows in the pixels of a reduced map: every pixel that they touch."""
    return np.stack([edge // factor if i in (0, 2) else -(-edge // factor) for i, edge in enumerate(windows.T)], axis=1)


class HeatSum:
    """The mean heat of overlapping windows, gathered one after the other: sums float32 [T, H, W], and counts."""

    def __init__(self, texts: int, height: int, width: int, factor: int):
        self._factor = factor
        self._total = np.zeros((texts, *reduced(height, width, factor)), np.float32)
        self._count = np.zeros(self._total.shape[1:], np.int32)

    def add(self, windows: np.ndarray, heats: np.ndarray) -> None:
        """Adds windows of the scene, int64 [N, 4], with their heat, float32 [N, T, g, g], drawn out linearly."""
        for (r0, r1, c0, c1), heat in zip(reduced_windows(windows, self._factor).tolist(), heats, strict=True):
            for total, patches in zip(self._total, heat, strict=True):
                total[r0:r1, c0:c1] += cv2.resize(patches, (c1 - c0, r1 - r0), interpolation=cv2.INTER_LINEAR)
            self._count[r0:r1, c0:c1] += 1

    def mean(self, text: int) -> np.ndarray:
        """Returns the mean heat of a text, float32 [H, W]; NaN where no window was."""
        return self._total[text] / self._count
