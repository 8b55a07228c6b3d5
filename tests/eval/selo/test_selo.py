"""Windows and localisation maps, against known counts, known maps, and the reference's way pixel by pixel."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from eval.errors import InputError
from eval.selo import localisation_map, overlay, selo_metrics, windows


@pytest.fixture
def plain(monkeypatch):
    """The benchmark's twin of the reference code."""
    monkeypatch.syspath_prepend(Path(__file__).parents[3])
    return importlib.import_module("benchmarks.selo")


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ((1000, 1300), 59),
        ((2000, 3000), 261),
        ((10000, 10001), 4283),
        ((1536, 1536), 95),
        ((768, 768), 22),
        ((1200, 1500), 80),
        ((1536, 2048), 129),
    ],
)
def test_number_of_windows(size, count):
    found = windows(*size)
    assert found.shape == (count, 4) and found.dtype == np.int64
    assert len(np.unique(found, axis=0)) == count
    assert (found[:, [0, 2]] >= 0).all() and (found[:, [1, 3]] <= size).all()


def test_worked_grid_column_by_column():
    third = (444, 700)
    whole = [(*row, *column) for column in ((0, 256), (256, 512), third) for row in ((0, 256), (256, 512), (344, 600))]
    half = [(*row, *column) for column in ((128, 384), (384, 640), third) for row in ((128, 384), (344, 600))]
    found = [tuple(window) for window in windows(600, 700, steps=(256,)).tolist()]
    assert found == [*whole, *half[:-1]]  # the last one is (344, 600, 444, 700) once more
    assert half[-1] in whole


def test_a_step_that_does_not_fit_is_dropped_with_a_note():
    with pytest.warns(UserWarning, match=r"windows of 512, 768 pixels do not fit a scene of 300×900: left out"):
        found = windows(300, 900)
    np.testing.assert_array_equal(found, windows(300, 900, steps=(256,)))


def test_an_image_smaller_than_every_window():
    with pytest.raises(InputError, match=r"image smaller than every window: 255×900 pixels, .* 256×256"):
        windows(255, 900)


@pytest.mark.parametrize("steps", [(), (0,), (256.5,), (1,)])
def test_bad_steps(steps):
    with pytest.raises(InputError, match="steps must be one or more whole numbers from 2"):
        windows(600, 700, steps)


@pytest.fixture(scope="module")
def known_map():
    """Case E1 of the reference's golden values: scores that fall off from (900, 500), all of them dyadic."""
    boxes = windows(1200, 1500)
    middle_y, middle_x = boxes[:, :2].sum(axis=1) // 2, boxes[:, 2:].sum(axis=1) // 2
    scores = np.maximum(0, 2048 - (abs(middle_x - 900) + abs(middle_y - 500))) / 2048
    return localisation_map(scores, boxes, 1200, 1500)


def test_map_of_the_reference(known_map):
    assert known_map.dtype == np.uint8 and known_map.shape == (1200, 1500)
    assert known_map.sum(dtype=int) == 264901910
    assert hashlib.sha256(known_map.tobytes()).hexdigest().startswith("293c6de15cda9575")
    assert (known_map.min(), known_map.max()) == (2, 249)
    pixels = {(0, 0): 71, (600, 750): 200, (500, 900): 234, (1199, 1499): 100, (100, 1000): 213}
    assert {place: known_map[place] for place in pixels} == pixels


def test_metrics_of_the_map_of_the_reference(known_map):
    found = selo_metrics(known_map, [[[800, 400], [1000, 400], [1000, 600], [800, 600]]])
    assert found["centres"] == [(882, 350)]
    expected = {"R_su": 0.6804107863, "R_da": 1, "R_as": 0.3919906625, "R_mi": 0.7349675827}
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=0, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_maps_and_metrics_equal_the_plain_ones(plain, seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(300, 700, 2).tolist()
    boxes = windows(height, width, steps=(64, 128, 256))
    scores = rng.normal(size=len(boxes))
    polygons = [(rng.uniform(0, 1, (5, 2)) * (width, height)).tolist() for _ in range(2)]
    map, expected = localisation_map(scores, boxes, height, width), plain.plain_map(scores, boxes, height, width)
    np.testing.assert_array_equal(map, expected)
    ours, theirs = selo_metrics(map, polygons), plain.plain_metrics(map, polygons)
    assert ours.pop("centres") == theirs.pop("centres")
    assert ours == pytest.approx(theirs, rel=0, abs=1e-9)


def test_the_benchmark_prints_its_table(plain, capsys):
    with pytest.warns(UserWarning, match="do not fit"):
        plain.main(["--queries=2", "--slow=1", "--size=300"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "300×300 pixels, 4 windows"
    ways = [line.split("|")[1].strip() for line in lines[4:]]
    assert ways[:2] == ["pixel by pixel", "eval.selo, one thread"] and len(ways) == 3


def test_the_benchmark_fails_where_the_two_ways_differ(plain):
    map, metrics = np.zeros((4, 4), np.uint8), {"R_su": 0.5, "centres": [(1, 2)]}
    plain.check_agreement((map, metrics), (map, metrics))
    for other in ((map + 1, metrics), (map, {**metrics, "R_su": 0.50001}), (map, {**metrics, "centres": [(2, 2)]})):
        with pytest.raises(SystemExit):
            plain.check_agreement((map, metrics), other)


def test_offset_and_factor_leave_the_map_alone():
    boxes = windows(600, 700, steps=(256,))
    scores = np.arange(len(boxes)) ** 2 % 13 / 16  # dyadic, so that no rounding enters
    changed = localisation_map(4 * scores - 8, boxes, 600, 700)
    np.testing.assert_array_equal(changed, localisation_map(scores, boxes, 600, 700))


def test_equal_scores_make_a_map_of_zeros():
    boxes = windows(600, 700, steps=(256,))
    assert not localisation_map(np.full(len(boxes), 0.25), boxes, 600, 700).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, w: (np.where(np.arange(len(s)) == 3, np.nan, s), w), "the score of window 3 is nan"),
        (lambda s, w: (np.where(np.arange(len(s)) == 2, np.inf, s), w), "the score of window 2 is inf"),
        (lambda s, w: (s[1:], w), "14 windows need 14 scores"),
        (lambda s, w: (s[1:], w[1:]), "no window holds the pixel in row 0, column 0"),
        (lambda s, w: (s, w + 1), r"window 2, \[345, 601, 1, 257\] .* is empty or not within the scene of 600×700"),
        (lambda s, w: (s, w[:, ::-1]), r"window 0, \[256, 0, 256, 0\] .* is empty"),
        (lambda s, w: (s, w / 2), "windows must be whole numbers"),
    ],
)
def test_bad_scores_and_windows(change, message):
    boxes = windows(600, 700, steps=(256,))
    with pytest.raises(InputError, match=message):
        localisation_map(*change(np.ones(len(boxes)), boxes), 600, 700)


def test_overlay_is_seven_tenths_scene_and_three_tenths_colour():
    scene = np.full((2, 3, 3), (100, 50, 200), np.uint8)
    map = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
    found = overlay(scene, map)
    assert found.dtype == np.uint8 and found.shape == (2, 3, 3)
    blue, red = (cv2.applyColorMap(np.full((1, 1), grey, np.uint8), cv2.COLORMAP_JET)[0, 0, ::-1] for grey in (0, 255))
    assert blue[2] > blue[0] and red[0] > red[2]  # RGB: low is blue, high is red
    for row, colour in ((0, blue), (1, red)):
        np.testing.assert_array_equal(found[row, 0], np.rint(0.7 * scene[row, 0] + 0.3 * colour))


def test_overlay_of_another_size():
    with pytest.raises(InputError, match="an overlay needs"):
        overlay(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.uint8))
