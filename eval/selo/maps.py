"""Localisation maps: every pixel's mean score over the windows that hold it, scaled to 0 … 255, noise suppressed."""

from __future__ import annotations

import cv2
import numpy as np

from eval.errors import InputError
from eval.selo.cells import average, to_grey
from eval.selo.grid import checked_windows
from eval.selo.median import median

MEDIAN = 251  # side of the median filter's window, pixels


def localisation_map(scores, windows, height: int, width: int) -> np.ndarray:
    """Returns the localisation map of a query, uint8 [H, W], to the integer as AIR-SLT's reference code computes it.

    Scores are added up in the order of the windows in float64, divided by the number of windows, scaled from 0 to
    255, cut (not rounded) to whole numbers, and median-filtered over 251×251 pixels with the border repeated.

    Args:
      scores: of the windows with the query, [N]. A positive factor and an offset change nothing but rounding.
      windows: int [N, 4] of r0, r1, c0, c1, as `eval.selo.windows` has them; together they cover the scene.
      height, width: of the scene, in pixels.

    Returns:
      The map; all 0 where every pixel has the same mean score, which the reference divides by zero for.

    Raises:
      InputError: a score is not finite, there are more or fewer scores than windows, a window reaches out of the
        scene, or a pixel lies in no window.
    """
    windows = checked_windows(windows, height, width)
    means, rows, columns = average(finite_scores(scores, len(windows)), windows, height, width)
    if np.isnan(means).any():
        r, c = np.argwhere(np.isnan(means))[0]
        raise InputError(f"no window holds the pixel in row {rows[r]}, column {columns[c]}: windows must cover a scene")
    return median(to_grey(means), rows, columns, MEDIAN)


def overlay(image: np.ndarray, map: np.ndarray) -> np.ndarray:
    """Returns a map over its scene as the reference draws it: 0.7 of the scene, 0.3 of the map in colours ("JET").

    Args:
      image: RGB, uint8 [H, W, 3].
      map: uint8 [H, W].

    Returns:
      RGB, uint8 [H, W, 3].
    """
    image, map = np.asarray(image), np.asarray(map)
    if image.dtype != np.uint8 or map.dtype != np.uint8 or map.ndim != 2 or image.shape != (*map.shape, 3):
        raise InputError(
            f"an overlay needs a uint8 image [H, W, 3] and a uint8 map [H, W], got {image.dtype} {image.shape} and "
            f"{map.dtype} {map.shape}"
        )
    colours = cv2.cvtColor(cv2.applyColorMap(map, cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB)
    return cv2.addWeighted(image, 0.7, colours, 0.3, 0)


def finite_scores(scores, count: int) -> np.ndarray:
    """Returns scores as float64 [N]; InputError where there are not `count` of them or one is not finite."""
    scores = np.asarray(scores, np.float64)
    if scores.shape != (count,):
        raise InputError(f"{count} windows need {count} scores, got an array of shape {scores.shape}")
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        raise InputError(f"the score of window {wrong[0]} is {scores[wrong[0]]}: mend the model that made it")
    return scores
