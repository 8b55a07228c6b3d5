"""Masks to boxes: the parts that SciPy finds, and outlines that rasterise to the very pixels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from lrsclip_jax.corpus.rules import describe
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.annotations.mask_objects import things_of_mask


def inside(polygon, shape):
    """The pixels from whose centres a ray to the right crosses the sides an odd number of times."""
    odd = np.zeros(shape, int)
    middles = np.arange(shape[0]) + 0.5
    for (x0, y0), (x1, y1) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        for row in np.flatnonzero((y0 > middles) != (y1 > middles)):
            crossing = x0 + (middles[row] - y0) * (x1 - x0) / (y1 - y0)
            odd[row] ^= np.arange(shape[1]) + 0.5 < crossing
    return odd


def area(polygon):
    x, y = np.array(polygon).T
    return (x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def blobs(seed, density):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(40, 60)), 1.2)
    return (noise > np.quantile(noise, 1 - density)).astype(np.int32)


@pytest.mark.parametrize("density", [0.2, 0.5, 0.8])
def test_parts_are_scipys_and_outlines_are_exact(density):
    for seed in range(4):
        mask = blobs(seed, density)
        parts, count = ndimage.label(mask, np.ones((3, 3)))
        things = things_of_mask(mask, {1: "building"}, min_pixels=1)
        boxes = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(parts)]
        assert sorted(thing.box for thing in things) == sorted(boxes)
        filled = [inside(thing.polygon, mask.shape) for thing in things]
        assert (sum(filled) == mask).all()
        assert [area(thing.polygon) for thing in things] == [part.sum() for part in filled]


def test_holes_are_cut_out_and_corners_keep_parts_together():
    mask = np.zeros((8, 9), np.uint8)
    mask[1:6, 1:6] = 1
    mask[2, 2] = mask[4, 4] = 0
    mask[6, 6] = 1  # touches by a corner
    (thing,) = things_of_mask(mask, {1: "building"})
    assert thing.box == (1, 1, 7, 7) and area(thing.polygon) == mask.sum() == 24
    assert (inside(thing.polygon, mask.shape) == mask).all()


def test_specks_and_unnamed_classes_are_left_out():
    mask = np.zeros((20, 20), np.int64)
    mask[:4, :4], mask[10:13, 10:15], mask[19, 19] = 1, 2, 1
    (tree,) = things_of_mask(mask, {1: "Tree", 3: "car"})
    assert (tree.name, tree.box) == ("Tree", (0, 0, 4, 4))
    assert [thing.name for thing in things_of_mask(mask, {2: "car"}, min_pixels=15)] == ["car"]
    assert things_of_mask(mask, {2: "car"}) == ()


def test_ground_covers_are_told_by_their_share():
    mask = np.zeros((100, 200), np.uint8)
    mask[:, :70] = 1
    mask[40:60, 20:40] = 0  # an island
    mask[50:56, 70:] = 2
    mask[10:30, 150:190] = 3
    things = things_of_mask(mask, {1: "water", 2: "road", 3: "building"})
    text = describe(things, 200, 100, key=(0,)).long
    assert "about a third of the image" in text.lower() and "in the left half of the image" in text
    assert "oads" in text and "a small part of the image" in text.lower()
    assert "The building" in text and "a building" in text


@pytest.mark.parametrize("mask", [np.zeros((3, 3, 3), int), np.zeros((3, 3))])
def test_a_mask_is_a_grid_of_integers(mask):
    with pytest.raises(InputError, match=r"integers \[height, width\]"):
        things_of_mask(mask, {1: "building"})
