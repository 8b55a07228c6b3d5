"""Parts of annotated objects in windows."""

import sys

import cv2
import numpy as np
import pytest
from scipy import ndimage

from lrsclip_jax.errors import MissingPackage
from lrsclip_jax.sources.annotations.clipping import clip
from lrsclip_jax.sources.annotations.mask_objects import outline, things_of_mask
from lrsclip_jax.sources.item import Thing


def test_polygons_are_clipped_as_opencv_does():
    rng = np.random.default_rng(0)
    window = (10.0, 20.0, 60.0, 50.0)
    corners = np.array([[10, 20], [60, 20], [60, 50], [10, 50]], np.float32)
    areas = []
    for _ in range(200):
        hull = cv2.convexHull(rng.uniform(0, 80, (6, 2)).astype(np.float32))[:, 0]
        polygon = tuple(map(tuple, hull.tolist()))
        box = (*hull.min(0).tolist(), *hull.max(0).tolist())
        expected, shared = cv2.intersectConvexConvex(hull, corners)
        (part,) = clip(Thing("x", box, polygon), window) or (None,)
        area = cv2.contourArea(np.array(part.polygon, np.float32)) if part else 0
        assert area == pytest.approx(expected, rel=1e-4, abs=1e-2)
        if part:
            around = shared[:, 0].min(0) - (10, 20), shared[:, 0].max(0) - (10, 20)
            np.testing.assert_allclose(part.box, np.concatenate(around), atol=1e-3)
        areas.append(area)
    assert min(areas) < 100 and max(areas) > 800


def area(polygon):
    x, y = np.array(polygon).T
    return abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


U = ((0, 0), (10, 0), (10, 10), (7, 10), (7, 3), (3, 3), (3, 10), (0, 10))


def test_a_polygon_that_a_window_cuts_in_two_gives_two_things():
    left, right = clip(Thing("pier", (0, 0, 10, 10), U), (-5, 5, 20, 25))
    assert (left.box, right.box) == ((5, 0, 8, 5), (12, 0, 15, 5))
    assert area(left.polygon) == area(right.polygon) == 15
    assert set(right.polygon) == {(12, 0), (15, 0), (15, 5), (12, 5)}
    (whole,) = clip(Thing("pier", (0, 0, 10, 10), U), (-5, -5, 20, 20))
    assert whole == Thing("pier", (5, 5, 15, 15), tuple((x + 5, y + 5) for x, y in U))
    (one,) = clip(Thing("pier", (0, 0, 10, 10), U), (-5, 1, 20, 20))
    assert area(one.polygon) == 72 - 10 and one.box == (5, 0, 15, 9)
    assert clip(Thing("pier", (0, 0, 10, 10), U), (4, 4, 6, 9)) == ()  # between the arms
    assert clip(Thing("pier", (0, 0, 10, 10), U), (50, 50, 60, 60)) == ()
    assert len(clip(Thing("pier", (0, 0, 10, 10), U), (-5, 5, 7.05, 25))) == 1  # of the other arm a speck


def test_masks_of_several_parts_stay_one_thing_and_holes_stay_holes():
    mask = np.zeros((12, 12), np.uint8)
    mask[1:9, 1:9] = 1
    mask[3:5, 3:5] = 0
    mask[9, 9] = mask[10, 10] = 1  # at corners
    (thing,) = things_of_mask(mask, {1: "building"})
    rows = slice(2, 10)
    (cut,) = clip(thing, (0, 2, 12, 10))
    assert area(cut.polygon) == pytest.approx(mask[rows].sum()) and cut.box == (1, 0, 10, 8)
    apart = np.zeros((6, 12), bool)
    apart[1:5, 1:4] = apart[1:5, 7:11] = True
    (cut,) = clip(Thing("ship", (1, 1, 11, 5), outline(apart)), (0, 2, 12, 12))
    assert area(cut.polygon) == 21 and cut.box == (1, 0, 11, 3)


def test_parts_of_any_outline_have_the_area_of_their_pixels():
    rng = np.random.default_rng(0)
    for _ in range(60):
        mask = (ndimage.gaussian_filter(rng.normal(size=(30, 30)), 1) > 0.05).astype(np.uint8)
        y0, x0 = rng.integers(0, 12, 2)
        for thing in things_of_mask(mask, {1: "x"}, 1):
            for part in clip(thing, (x0, y0, x0 + 15, y0 + 15)):
                corners = np.array(part.polygon)
                assert corners.min() >= 0 and corners.max() <= 15
                np.testing.assert_allclose(part.box, [*corners.min(0), *corners.max(0)], atol=1e-9)
        seen = [part for thing in things_of_mask(mask, {1: "x"}, 1) for part in clip(thing, (x0, y0, x0 + 15, y0 + 15))]
        assert sum(area(part.polygon) for part in seen) == pytest.approx(mask[y0 : y0 + 15, x0 : x0 + 15].sum())
        assert len(seen) == ndimage.label(mask[y0 : y0 + 15, x0 : x0 + 15], np.ones((3, 3)))[1]


def test_crossed_and_flat_outlines_are_cut_without_an_error():
    bow = ((0, 0), (8, 8), (8, 0), (0, 8))
    assert sum(area(part.polygon) for part in clip(Thing("x", (0, 0, 8, 8), bow), (0, 0, 6, 8))) == pytest.approx(20)
    flat = ((0, 0), (8, 0), (4, 0))
    assert clip(Thing("x", (0, 0, 8, 4), flat), (0, -1, 6, 8)) == ()
    assert clip(Thing("x", None), (0, 0, 6, 8)) == (Thing("x", None),)


def test_without_shapely_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "shapely", None)
    assert len(clip(Thing("x", (0, 0, 10, 10), U), (-1, -1, 11, 11))) == 1
    with pytest.raises(MissingPackage, match=r"^shapely .*: pip install 'lrsclip_jax\[corpus\]'$"):
        clip(Thing("x", (0, 0, 10, 10), U), (-1, -1, 5, 11))
