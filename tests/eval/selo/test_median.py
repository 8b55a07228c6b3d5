"""The median filter of images made of cells, against OpenCV's, and against sorting."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from eval.selo.cells import expand
from eval.selo.median import median, median_by_rectangles


def random_cells(seed, values=256):
    rng = np.random.default_rng(seed)
    edges = [np.unique([0, length, *rng.integers(0, length, rng.integers(0, 9))]) for length in rng.integers(2, 400, 2)]
    return rng.integers(0, values, [len(of_axis) - 1 for of_axis in edges], dtype=np.uint8), *edges


@pytest.mark.parametrize("size", [3, 31, 101, 251])
@pytest.mark.parametrize("values", [2, 6, 256])
def test_equals_opencv(size, values):
    for seed in range(4):
        cells, rows, columns = random_cells(seed, values)
        expected = cv2.medianBlur(expand(cells, rows, columns), size)
        np.testing.assert_array_equal(median_by_rectangles(cells, rows, columns, size), expected)
        np.testing.assert_array_equal(median(cells, rows, columns, size), expected)


def test_is_the_middle_of_sorted_pixels_with_the_border_repeated():
    cells, rows, columns = random_cells(5)
    around = np.pad(expand(cells, rows, columns), 15, mode="edge")
    filtered = median_by_rectangles(cells, rows, columns, 31)
    for y, x in np.random.default_rng(0).integers(0, filtered.shape, (50, 2)):
        assert filtered[y, x] == np.sort(around[y : y + 31, x : x + 31], axis=None)[31 * 31 // 2]


def test_small_and_large_cells_alike():
    """Edges at every third pixel go to OpenCV's filter, those of large windows do not; both give what it gives."""
    rng = np.random.default_rng(0)
    for step in (3, 100):
        edges = np.arange(0, 301, step)
        cells = rng.integers(0, 256, (len(edges) - 1, len(edges) - 1), dtype=np.uint8)
        np.testing.assert_array_equal(median(cells, edges, edges, 51), cv2.medianBlur(expand(cells, edges, edges), 51))
