"""Attention centres: where a localisation map, smoothed, has its peaks.

A peak is a pixel as high as any in the 1000×1000 pixels around it, and not 0. Few pixels are, so the maxima of blocks
of pixels rule out nearly all of them before any is looked at by itself.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

SMOOTHINGS, BOX = 5, 50  # box filters one after the other, and the side of each
BEFORE, AFTER = 500, 499  # a peak's window reaches so far up and left, and so far down and right
BLOCK = 50  # divides BEFORE and AFTER + 1
LEAST = 128  # grey value of a centre on the map: half of 255


def attention_centres(map: np.ndarray) -> list[tuple[int, int]]:
    """Returns the attention centres (x, y) of a map, uint8 [H, W], in pixels; highest on the map first.

    The map is smoothed by five box filters; pixels that are as high as any in their window of 1000×1000 pixels and
    touch each other, diagonally too, are one peak, and its mean position, cut to whole pixels, is a centre where the
    map itself has at least half its height. Equal to the integer to `SLM._get_prob_center_in_gray` of AIR-SLT, drift
    of two pixels to the lower right and all.
    """
    smooth = map
    for _ in range(SMOOTHINGS):
        smooth = cv2.boxFilter(smooth, -1, (BOX, BOX))

    def height(centre: tuple[int, int]) -> int:
        x, y = centre
        return int(map[y, x])

    centres = [centre for centre in _middles(peak_pixels(smooth)) if height(centre) >= LEAST]
    return sorted(centres, key=height, reverse=True)


def peak_pixels(grey: np.ndarray) -> np.ndarray:
    """Returns the pixels of all peaks of an image, uint8 [H, W], as int64 [P, 2] of row and column, in no order."""
    tops = _block_maxima(grey)
    reach = BEFORE // BLOCK
    inside = ndimage.maximum_filter(tops, 2 * reach - 1, mode="constant")  # blocks wholly in the window of each pixel
    touched = ndimage.maximum_filter(tops, 2 * reach + 1, mode="constant")  # … and those partly in some window
    found = [np.empty((0, 2), np.int64)]
    for r, c in np.argwhere((tops == inside) & (tops > 0)):
        block = grey[r * BLOCK : (r + 1) * BLOCK, c * BLOCK : (c + 1) * BLOCK]
        is_peak = block == tops[r, c]
        if touched[r, c] > tops[r, c]:
            is_peak &= ~_higher_in_window(grey, r * BLOCK, c * BLOCK, block.shape, tops[r, c])
        found.append(np.argwhere(is_peak) + (r * BLOCK, c * BLOCK))
    return np.concatenate(found)


def _block_maxima(grey: np.ndarray) -> np.ndarray:
    height, width = (-(-length // BLOCK) for length in grey.shape)
    whole = np.zeros((height * BLOCK, width * BLOCK), np.uint8)
    whole[: grey.shape[0], : grey.shape[1]] = grey
    return whole.reshape(height, BLOCK, -1).max(axis=1).reshape(height, width, BLOCK).max(axis=2)


def _higher_in_window(grey: np.ndarray, top: int, left: int, shape: tuple[int, int], value: int) -> np.ndarray:
    """Returns for each pixel of a block of this shape whether its window holds a value above `value`."""
    first_row, first_column = max(top - BEFORE, 0), max(left - BEFORE, 0)
    near = grey[first_row : top + shape[0] + AFTER, first_column : left + shape[1] + AFTER]
    higher = cv2.integral((near > value).astype(np.uint8))  # [r, c]: how many above row r and left of column c
    (r0, r1), (c0, c1) = (
        np.clip([middles - first - BEFORE, middles - first + AFTER + 1], 0, length)
        for first, middles, length in (
            (first_row, np.arange(top, top + shape[0]), near.shape[0]),
            (first_column, np.arange(left, left + shape[1]), near.shape[1]),
        )
    )
    return higher[np.ix_(r1, c1)] - higher[np.ix_(r0, c1)] - higher[np.ix_(r1, c0)] + higher[np.ix_(r0, c0)] > 0


def _middles(pixels: np.ndarray) -> list[tuple[int, int]]:
    """Returns the mean (x, y), cut, of each connected set of pixels, in the order in which a scan meets the sets."""
    if not len(pixels):
        return []
    rows, columns = _close_up(pixels[:, 0]), _close_up(pixels[:, 1])
    mask = np.zeros((rows.max() + 1, columns.max() + 1), bool)
    mask[rows, columns] = True
    labels = ndimage.label(mask, np.ones((3, 3)))[0][rows, columns]
    counts = np.bincount(labels)[1:]
    y, x = (np.bincount(labels, of_pixel)[1:] / counts for of_pixel in pixels.T)
    return list(zip(x.astype(int).tolist(), y.astype(int).tolist(), strict=True))


def _close_up(positions: np.ndarray) -> np.ndarray:
    """Returns positions with all wider gaps between neighbouring ones narrowed to one empty place."""
    values, place = np.unique(positions, return_inverse=True)
    return np.append(0, np.cumsum(np.minimum(np.diff(values), 2)))[place]
