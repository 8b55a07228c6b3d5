"""The second version, which looks twice: against the reference's steps written out pixel by pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from eval.errors import InputError
from eval.selo.v2 import anchor_windows, coarse_windows, second_map, shuffled


def score(windows):
    """Depends on a window's place and size, so that a wrong window gives a wrong map."""
    r0, r1, c0, c1 = np.asarray(windows).T.astype(float)
    return 0.2 + np.sin(r0 / 97) * np.cos(c1 / 61) / 8 + (r1 - r0) / 4096 + (c1 - c0) / 2048


def plain_map(height, width):
    """What generate_selo_v2.py does, window by window and over whole images."""
    coarse = {}
    for h in range(0, height, 512):
        for w in range(0, width, 512):
            h0, w0 = min(h, height - 512), min(w, width - 512)
            coarse[h0, h0 + 512, w0, w0 + 512] = None
    order = sorted(coarse, key=lambda window: score([window])[0])
    chosen = order[-(int(len(order) * 0.15) + 1) :]
    fine = {}
    for h0, h1, w0, w1 in chosen:
        points = [(h0, w0), (h0, w1), (h1, w0), (h1, w1), (h0 + 128, w0 + 128), (h0 + 128, w0 + 384)]
        points += [(h0 + 384, w0 + 128), (h0 + 384, w0 + 384), (h0 + 256, w0 + 256)]
        for h, w in points:
            for size in (64, 128):
                top, left = max(h - size, 0), max(w - size, 0)
                fine[top, min(top + 2 * size, height), left, min(left + 2 * size, width)] = None
    heat, number = np.zeros((2, height, width))
    for window in [*chosen, *fine]:
        heat[window[0] : window[1], window[2] : window[3]] += score([window])[0]
        number[window[0] : window[1], window[2] : window[3]] += 1
    heat[number > 0] /= number[number > 0]
    above = heat - heat.min()
    return cv2.GaussianBlur(np.uint8(255 * (above / above.max())), (255, 255), 0)


@pytest.mark.parametrize("size", [(512, 512), (600, 1300)])
def test_map_is_the_plain_one(size):
    map = second_map(score, *size)
    assert map.dtype == np.uint8 and map.shape == size and map.max() > map.min()
    np.testing.assert_array_equal(map, plain_map(*size))


def test_scores_are_asked_for_twice():
    asked = []
    second_map(lambda windows: asked.append(windows) or score(windows), 1100, 1300)
    coarse, fine = asked
    np.testing.assert_array_equal(coarse, coarse_windows(1100, 1300))
    assert len(coarse) == 9
    best = coarse[np.argsort(score(coarse))[-2:]]  # int(0.15 · 9) + 1
    np.testing.assert_array_equal(fine, anchor_windows(best, 1100, 1300))


def test_windows_around_anchors():
    found = anchor_windows(np.array([[0, 512, 488, 1000]]), 700, 1000)
    assert len(found) == 18 == len(np.unique(found, axis=0))
    assert found.min() == 0 and (found[:, 1] <= 700).all() and (found[:, 3] <= 1000).all()
    assert [0, 128, 424, 552] in found.tolist()  # the upper left corner: pushed inside above
    assert [448, 576, 936, 1000] in found.tolist()  # the lower right one: cut off at the border
    assert [192, 320, 680, 808] in found.tolist()  # the centre


def test_shuffled_words():
    text = "a white plane beside two grey hangars"
    found = shuffled(text, seed=3)
    assert len(found) == 4 and found == shuffled(text, seed=3) != shuffled(text, seed=4)
    assert all(sorted(words.split()) == sorted(text.split()) for words in found)
    assert len({text, *found}) > 1


def test_equal_scores_still_show_where_was_looked():
    map = second_map(lambda windows: np.full(len(windows), 0.25), 700, 1600)
    assert map.max() > 0 and map[:, :400].max() == 0  # of eight windows the last two, of equally good ones


@pytest.mark.parametrize(
    ("answer", "size", "message"),
    [
        (lambda windows: np.full(len(windows), np.nan), (600, 600), "the score of window 0 is nan"),
        (lambda windows: score(windows)[1:], (600, 600), "4 windows need 4 scores"),
        (score, (511, 900), "image smaller than every window: 511×900"),
    ],
)
def test_bad_input(answer, size, message):
    with pytest.raises(InputError, match=message):
        second_map(answer, *size)
