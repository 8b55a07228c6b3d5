"""Metrics of semantic localisation, against the values that the reference code gives, and by hand."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from eval.errors import InputError
from eval.selo import selo_metrics
from eval.selo.selo_metrics import RegionCircle, attention_discreteness, attention_shift, region, region_mask


def square(x0, x1, y0, y1):
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def blobs(height, width, *of):
    """A map of blobs, each (x, y, height, flatness); the highest counts."""
    y, x = np.ogrid[:height, :width]
    falling = [top - ((x - bx) ** 2 + (y - by) ** 2) // flatness for bx, by, top, flatness in of]
    return np.maximum.reduce(falling).clip(0).astype(np.uint8)


MIDDLE = square(700, 900, 500, 700)
PEAKS = (650, 800, 255, 600), (1750, 800, 250, 600)


@pytest.mark.parametrize(
    ("size", "of", "polygon", "circle", "centres", "pixels", "su", "da", "shift", "mi"),
    [
        pytest.param(
            (1200, 1600), [(800, 600, 255, 400)], MIDDLE, (800, 600, 212), [(802, 602)], 40401,
            0.9999593077, 1, 0.0021396675, 0.9992348394, id="A: in the middle",
        ),
        pytest.param(
            (1200, 1600), [(860, 600, 255, 400)], MIDDLE, (800, 600, 212), [(862, 602)], 40401,
            0.9999333970, 1, 0.0736493448, 0.9741960881, id="B: beside the middle",
        ),
        pytest.param(
            (1200, 1600), [(300, 300, 255, 400)], square(1200, 1400, 800, 1000), (1300, 900, 212), [(302, 302)], 40401,
            0, 0, 1, 0, id="C: elsewhere",
        ),
        pytest.param(
            (1200, 1600), [(800, 600, 120, 400)], MIDDLE, (800, 600, 212), [], 40401,
            1, 0, 1, 0.4, id="D: too weak",
        ),
        pytest.param(
            (1600, 2400), PEAKS, square(500, 1900, 200, 1400), (1200, 800, 1382), [(652, 802), (1752, 802)], 1682601,
            0.9757111585, 0.4363483078, 0.1205113603, 0.8071925643, id="E: two peaks",
        ),
    ],
)  # fmt: skip
def test_golden_values(size, of, polygon, circle, centres, pixels, su, da, shift, mi):
    found = selo_metrics(blobs(*size, *of), [polygon])
    assert region(np.array(polygon, np.float64)) == circle
    assert found.pop("centres") == centres and found.pop("mask_pixels") == pixels
    assert found == pytest.approx({"R_su": su, "R_da": da, "R_as": shift, "R_mi": mi}, rel=0, abs=1e-9)


def test_a_map_of_zeros():
    found = selo_metrics(np.zeros((90, 120), np.uint8), [square(10, 30, 10, 30)])
    assert found == {"R_su": 0, "R_as": 1, "R_da": 0, "R_mi": 0, "centres": [], "mask_pixels": 441}


def test_a_region_that_is_the_whole_scene():
    found = selo_metrics(np.full((90, 120), 200, np.uint8), [square(0, 119, 0, 89)])
    assert found["R_su"] == 0 and found["mask_pixels"] == 90 * 120
    assert found["centres"] == [(59, 44)] and found["R_da"] == 1


def test_masks_hold_their_borders_and_leave_out_what_two_polygons_share():
    assert region_mask([np.array(square(5, 25, 5, 25))], 40, 40).sum() == 21**2
    polygons = [np.array(square(5, 25, 5, 25)), np.array(square(15, 35, 15, 35))]
    mask = region_mask(polygons, 40, 40)
    assert mask[20, 20] == 0 and mask[10, 10] == mask[30, 30] == 1


def test_masks_are_those_of_the_reference():
    rng = np.random.default_rng(0)
    for _ in range(20):
        polygons = [rng.uniform(-30, 190, (rng.integers(3, 12), 2)) for _ in range(rng.integers(1, 4))]
        expected = cv2.fillPoly(np.zeros((160, 150)), [np.array(polygon.tolist(), np.int32) for polygon in polygons], 1)
        np.testing.assert_array_equal(region_mask(polygons, 160, 150), expected)


def test_a_repeated_vertex_counts_twice():
    once, twice = np.array(square(0, 100, 0, 100), float), np.array([*square(0, 100, 0, 100), [0, 0]], float)
    assert region(once) == (50, 50, int(1.5 * math.hypot(50, 50)))
    assert region(twice)[:2] == (40, 40)


def test_discreteness_jumps_from_one_centre_to_two():
    one = RegionCircle(100, 100, 50)
    assert attention_discreteness([], [one]) == 0
    assert attention_discreteness([(300, 300)], [one]) == 0
    assert attention_discreteness([(100, 100), (300, 300)], [one]) == 1
    assert attention_discreteness([(100, 150), (90, 70)], [one, RegionCircle(300, 300, 20)]) == pytest.approx(
        (0.5 * (1 - math.hypot(5, 40) / 50) + math.exp(-2)) / 2
    )
    assert attention_discreteness([(100, 100)] * 2, [one]) == pytest.approx(0.5 + math.exp(-2))


def test_shift_is_the_mean_over_regions_of_centres_within_reach():
    near, far = RegionCircle(100, 100, 50), RegionCircle(1000, 1000, 20)
    assert attention_shift([], [near, far]) == 1
    assert attention_shift([(100, 100)], [near]) == 0
    g = ((10 + 50) / 2 / 50 + 1) / 2  # two of three centres lie within the first region, none within the second
    found = attention_shift([(110, 100), (100, 150), (100, 151)], [near, far])
    assert found == pytest.approx((math.exp(3 * g) - 1) / (math.exp(3) - 1))


@pytest.mark.parametrize(
    ("polygons", "message"),
    [
        ([], "no polygon"),
        (7, "polygons are a list of lists of points"),
        ([square(5, 25, 5, 25), [[1, 1], [30, 30]]], "polygon 1 has 2 points: a region needs three or more"),
        ([square(200, 220, 5, 25)], r"polygon 0 lies outside the scene of 90×120 pixels"),
        ([square(-20, -5, 5, 25)], "polygon 0 lies outside the scene"),
        ([[[1, 1], [30, 1], [math.nan, 30]]], "polygon 0 has a point that is not finite"),
        ([[[1, 1], [30, 1], [1e12, 30]]], "polygon 0 reaches beyond"),
        ([[[5, 5], [5.5, 5], [5, 5.5]]], "polygon 0 is smaller than a pixel"),
        ([[[1, 1, 1], [30, 1, 1], [3, 30, 1]]], r"polygon 0 is no list of points \[x, y\]"),
        ([[[1, 1], [30], [3, 30]]], "polygon 0 is no list of points"),
        ([square(-50, 200, -50, 200)] * 2, "the polygons cancel out"),
    ],
)
def test_bad_polygons(polygons, message):
    with pytest.raises(InputError, match=message):
        selo_metrics(np.full((90, 120), 200, np.uint8), polygons)


def test_a_region_that_only_crosses_the_scene():
    assert selo_metrics(np.full((90, 120), 200, np.uint8), [square(-50, 200, 40, 49)])["mask_pixels"] == 10 * 120


@pytest.mark.parametrize("map", [np.zeros((9, 9)), np.zeros((9, 9, 3), np.uint8), np.zeros((0, 9), np.uint8)])
def test_bad_maps(map):
    with pytest.raises(InputError, match="a localisation map is a uint8 matrix"):
        selo_metrics(map, [square(0, 5, 0, 5)])
