"""Tiles cover a scene, are squares, and grow from level to level."""

import itertools

import numpy as np
import pytest

from lrsclip_jax.data.tiling import levels_of, windows


@pytest.mark.parametrize("height, width, size, overlap", [(130, 250, 100, 0), (100, 99, 100, 0), (257, 300, 64, 16)])
def test_tiles_cover_a_scene(height, width, size, overlap):
    covered = np.zeros((height, width), int)
    found = [tuple(window) for window in windows(height, width, size, size - overlap).tolist()]
    assert len(set(found)) == len(found)
    for r0, r1, c0, c1 in found:
        assert (r1 - r0, c1 - c0) == (min(size, height), min(size, width)) and r0 >= 0 and c0 >= 0
        covered[r0:r1, c0:c1] += 1
    assert covered.shape == (height, width) and covered.min() == 1
    inner = sorted({c0 for _, _, c0, _ in found})
    assert all(right - left <= size - overlap for left, right in itertools.pairwise(inner))


def test_a_level_is_twice_as_wide_as_the_one_before_until_the_scene_ends():
    assert levels_of(1000, 700, 224, 0.25, 4) == [(0, 224, 224, 168), (1, 448, 224, 336), (2, 700, 224, 525)]
    assert levels_of(150, 400, 224, 0.25, 2) == [(0, 150, 150, 112)]
    assert levels_of(5000, 5000, 224, 0, 1, reduction=2.5) == [(0, 560, 224, 560)]
    assert levels_of(9, 9, 4, 0.99) == [(0, 4, 4, 1)]
