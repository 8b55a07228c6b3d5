"""Attention centres, against scipy's maximum filter and labels on whole images."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy import ndimage

from eval.selo.peaks import attention_centres, peak_pixels


def random_map(seed, height, width):
    """Smooth, stepped, or made of a few flat patches, so that there are peaks of one pixel and wide plateaus."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // rng.integers(20, 90) + 1, width // rng.integers(20, 90) + 1), np.uint8)
    how = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[seed % 3]
    map = cv2.resize(coarse, (width, height), interpolation=how)
    return np.minimum(map, 140) if seed % 2 else map


def peaks_of_whole_image(grey):
    return (ndimage.maximum_filter(grey, size=1000) == grey) & (grey > 0)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [(40, 1290), (900, 620), (1230, 1310)])
def test_peaks_are_those_of_the_maximum_filter(seed, size):
    map = random_map(seed, *size)
    found = np.zeros(size, bool)
    found[tuple(peak_pixels(map).T)] = True
    np.testing.assert_array_equal(found, peaks_of_whole_image(map))


@pytest.mark.parametrize("distance", [(500, 0), (499, 0), (-499, 0), (-500, 0), (0, 499), (0, 500), (0, -500)])
def test_a_window_reaches_500_up_and_left_and_499_down_and_right(distance):
    map = np.zeros((1100, 1100), np.uint8)
    low, high = np.array([550, 550]), np.array([550, 550]) + distance
    map[tuple(low)], map[tuple(high)] = 100, 200
    hidden = -500 <= min(distance) and max(distance) <= 499
    expected = [high.tolist()] if hidden else sorted([low.tolist(), high.tolist()])
    assert sorted(peak_pixels(map).tolist()) == expected


def test_nothing_rises_above_nothing():
    assert not len(peak_pixels(np.zeros((300, 200), np.uint8)))
    assert attention_centres(np.zeros((300, 200), np.uint8)) == []


def test_a_flat_map_is_one_peak_in_the_middle():
    assert attention_centres(np.full((300, 201), 200, np.uint8)) == [(100, 149)]


@pytest.mark.parametrize("seed", range(6))
def test_centres_are_the_middles_of_labelled_peaks(seed):
    map = random_map(seed, 700 + 100 * seed, 1500)
    smooth = map
    for _ in range(5):
        smooth = cv2.boxFilter(smooth, -1, (50, 50))
    labels, count = ndimage.label(peaks_of_whole_image(smooth), np.ones((3, 3)))
    middles = [np.argwhere(labels == label).mean(axis=0).astype(int).tolist() for label in range(1, count + 1)]
    assert middles
    expected = sorted([(x, y) for y, x in middles if map[y, x] / 255 >= 0.5], key=lambda c: -int(map[c[1], c[0]]))
    assert attention_centres(map) == expected


def test_the_highest_centre_comes_first():
    y, x = np.mgrid[:400, :1600]
    near = [top - ((x - at) ** 2 + (y - 200) ** 2) // 400 for at, top in ((300, 180), (1200, 220))]
    centres = attention_centres(np.maximum(*near).clip(0).astype(np.uint8))
    assert centres == [(1202, 202), (302, 202)]  # the reference's box filters drift by two pixels
