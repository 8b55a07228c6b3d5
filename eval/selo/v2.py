"""The second version of semantic localisation, which looks twice: coarse windows, then small ones around the best.

After AIR-SLT's predict/generate_selo_v2.py, as a function of whoever embeds the windows:

    texts = [text, *shuffled(text, seed)]       # the query is the mean of their unit rows
    score = lambda windows: …                   # int64 [N, 4] → [N] cosines of the windows with the query
    map = second_map(score, height, width)      # uint8 [H, W]; `score` is called twice

The first version answers from windows chosen beforehand, and so from saved embeddings; this one scores windows that
depend on its first scores, and so needs the model at hand.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from eval.errors import InputError
from eval.selo.cells import average, expand, to_grey
from eval.selo.grid import unique_windows
from eval.selo.maps import finite_scores

STEP = 512
SHARE = 0.15  # of the windows, looked at again
HALVES = (64, 128)  # half the sides of the small windows, pixels
BLUR = 255  # side of the Gaussian kernel, pixels

Score = Callable[[np.ndarray], np.ndarray]


def second_map(score: Score, height: int, width: int) -> np.ndarray:
    """Returns the localisation map of the second version, uint8 [H, W].

    Windows of 512 pixels cover the scene; of the int(0.15·n) + 1 best, nine anchors each (corners, centre, and the
    middles of the quarters) are scored again with windows of 128 and 256 pixels. The map is the mean score of all
    chosen windows, large and small, over a pixel, 0 where there is none, scaled to 0 … 255 and blurred.

    Args:
      score: takes windows, int64 [N, 4] (r0, r1, c0, c1), and returns their scores, [N]. A positive factor changes
        nothing; an offset does, as pixels without a window count as 0.
      height, width: of the scene, in pixels; at least 512 each.

    Raises:
      InputError: the scene is too small, or a score is not finite.
    """
    grid = coarse_windows(height, width)
    coarse = finite_scores(score(grid), len(grid))
    best = np.argsort(coarse, kind="stable")[-int(len(grid) * SHARE) - 1 :]
    anchors = anchor_windows(grid[best], height, width)
    fine = finite_scores(score(anchors), len(anchors))
    cells, rows, columns = average(
        np.concatenate([coarse[best], fine]), np.concatenate([grid[best], anchors]), height, width
    )
    grey = expand(to_grey(np.nan_to_num(cells, nan=0.0)), rows, columns)
    return cv2.GaussianBlur(grey, (BLUR, BLUR), 0)


def shuffled(text: str, seed: int, count: int = 4) -> list[str]:
    """Returns the words of a text in `count` random orders; the reference draws them without a seed."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.permutation(text.split())) for _ in range(count)]


def coarse_windows(height: int, width: int) -> np.ndarray:
    """Returns the windows of 512 pixels, row by row, int64 [N, 4]; InputError for a smaller scene."""
    if min(height, width) < STEP:
        raise InputError(f"image smaller than every window: {height}×{width} pixels, {STEP}×{STEP} are needed")
    starts = [[min(start, length - STEP) for start in range(0, length, STEP)] for length in (height, width)]
    return unique_windows((r, r + STEP, c, c + STEP) for r in starts[0] for c in starts[1])


def anchor_windows(coarse: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns the small windows around the nine anchors of each coarse window, without repeats, int64 [N, 4].

    One that would begin outside the scene is pushed inside, one that would end outside is cut off.
    """
    quarter = STEP // 4
    places = [(y, x) for y in (0, STEP) for x in (0, STEP)]
    places += [(y, x) for y in (quarter, 3 * quarter) for x in (quarter, 3 * quarter)]
    places += [(STEP // 2, STEP // 2)]
    return unique_windows(
        (*_around(r + y, half, height), *_around(c + x, half, width))
        for r, _, c, _ in coarse.tolist()
        for y, x in places
        for half in HALVES
    )


def _around(centre: int, half: int, length: int) -> tuple[int, int]:
    start = max(centre - half, 0)
    return start, min(start + 2 * half, length)
