"""The windows that a scene is cut into: square lattices of several sizes, each once more shifted by half a window.

The grid of AIR-SLT's reference code (Yuan et al., "Learning to Evaluate Performance of Multi-modal Semantic
Localization", predict/generate_selo.py), which keeps windows by name: one that occurs twice counts once.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import numpy as np

from eval.errors import InputError

STEPS = (256, 512, 768)


def windows(height: int, width: int, steps: Sequence[int] = STEPS) -> np.ndarray:
    """Returns the windows of a scene, without repeats, in the order in which the reference first meets them.

    Step by step; of each the lattice from the corner, then the one shifted by half a step along both axes; in each
    from left to right, column by column from top to bottom. The last row and column of a lattice are pushed inside.

    Args:
      height, width: of the scene, in pixels.
      steps: sides of the windows, in pixels. One larger than the scene is dropped with a warning.

    Returns:
      int64 [N, 4]: r0, r1, c0, c1, rows r0 to r1 − 1 and columns c0 to c1 − 1 of the scene.

    Raises:
      InputError: a step is below 2, or the scene is smaller than every window.
    """
    if not len(steps) or any(step != int(step) or step < 2 for step in steps):
        raise InputError(f"steps must be one or more whole numbers from 2 (sides of windows), got {tuple(steps)}")
    fitting = [int(step) for step in steps if step <= min(height, width)]
    if not fitting:
        raise InputError(
            f"image smaller than every window: {height}×{width} pixels, the smallest window has {min(steps)}×"
            f"{min(steps)}; give smaller steps"
        )
    if dropped := [str(step) for step in steps if step not in fitting]:
        warnings.warn(
            f"windows of {', '.join(dropped)} pixels do not fit a scene of {height}×{width}: left out", stacklevel=2
        )
    return unique_windows(
        (*row, *column)
        for step in fitting
        for shift in (0, step - step // 2)
        for column in _lattice(width, step, shift)
        for row in _lattice(height, step, shift)
    )


def unique_windows(found: Iterable[tuple[int, int, int, int]]) -> np.ndarray:
    """Returns windows as int64 [N, 4], each where it comes first."""
    return np.array(list(dict.fromkeys(found)), np.int64).reshape(-1, 4)


def checked_windows(windows, height: int, width: int) -> np.ndarray:
    """Returns windows as int64 [N, 4]; InputError names the first that is empty or reaches out of the scene."""
    windows = np.asarray(windows)
    if windows.ndim != 2 or windows.shape[1] != 4 or not len(windows) or not np.issubdtype(windows.dtype, np.integer):
        raise InputError(f"windows must be whole numbers [N, 4] (r0, r1, c0, c1), got {windows.dtype} {windows.shape}")
    r0, r1, c0, c1 = windows.T
    wrong = np.flatnonzero((r0 < 0) | (c0 < 0) | (r0 >= r1) | (c0 >= c1) | (r1 > height) | (c1 > width))
    if len(wrong):
        raise InputError(
            f"window {wrong[0]}, {windows[wrong[0]].tolist()} (r0, r1, c0, c1), is empty or not within the scene of "
            f"{height}×{width} pixels"
        )
    return windows.astype(np.int64)


def _lattice(length: int, step: int, shift: int) -> list[tuple[int, int]]:
    starts = (min(start, length - step) for start in range(shift, length, step))
    return [(start, start + step) for start in starts]
