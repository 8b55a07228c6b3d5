"""Confusion matrices: every count is there, right ones and mistakes apart, and the worst mistakes in words."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from eval.html.confusion import confusion_matrix, most_confused

CLASSES = ["airport", "bridge", "port & <dock>"]
COUNTS = [[8, 2, 0], [1, 299, 0], [0, 3, 1]]


def cells(fragment):
    """Class of mark, what it tells, opacity, place and shown text of every cell."""
    groups = list(ElementTree.fromstring(fragment).iter("g"))
    found = []
    for group in groups:
        title, rect, text = group
        place = tuple(float(rect.get(name)) for name in ("x", "y", "width"))
        found.append((group.get("class"), title.text, float(rect.get("fill-opacity")), place, text.text))
    return found


def test_every_count_is_told_in_its_place():
    found = cells(confusion_matrix(COUNTS, CLASSES, "Zero-shot"))
    assert [(mark, told, shown) for mark, told, _, _, shown in found] == [
        ("right deep", "airport: 8 of 10 taken for airport", "80"),
        ("wrong", "airport: 2 of 10 taken for bridge", "20"),
        ("wrong", "bridge: 1 of 300 taken for airport", "·"),
        ("right deep", "bridge: 299 of 300 taken for bridge", "100"),
        ("wrong deep", "port & <dock>: 3 of 4 taken for bridge", "75"),
        ("right", "port & <dock>: 1 of 4 taken for port & <dock>", "25"),
    ]
    assert [opacity for _, _, opacity, _, _ in found] == pytest.approx(
        [0.8**0.5, 0.2**0.5, (1 / 300) ** 0.5, 1, 0.75**0.5, 0.5], abs=0.005
    )
    left, top, width = found[0][3]
    grid = [(round((x - left) / width), round((y - top) / width)) for _, _, _, (x, y, _), _ in found]
    assert grid == [(0, 0), (1, 0), (0, 1), (1, 1), (1, 2), (2, 2)]


def test_names_stand_down_and_across():
    figure = ElementTree.fromstring(confusion_matrix(COUNTS, CLASSES, "<Zero>"))
    names = [text.text for text in figure.find("div/svg").findall("text")]
    assert sorted(names) == sorted(CLASSES * 2)
    assert figure.find("figcaption").text == "<Zero>"
    assert figure.find("div/svg").get("aria-label") == "<Zero>: true classes down, predicted classes across"


@pytest.mark.parametrize("classes", [19, 45])
def test_the_matrices_of_real_data_sets_fit_a_page(classes):
    names = [f"a class of {n:02}" for n in range(classes)]
    fragment = confusion_matrix(np.eye(classes, dtype=int), names)
    assert len(cells(fragment)) == classes
    assert 480 < int(re.search(r'<svg width="(\d+)"', fragment)[1]) <= 962


def test_the_largest_mistakes_in_words():
    assert most_confused(COUNTS, CLASSES) == (
        "Most often taken: port & <dock> for bridge (3 of 4); airport for bridge (2 of 10); "
        "bridge for airport (1 of 300)."
    )
    assert most_confused(COUNTS, CLASSES, most=1) == "Most often taken: port & <dock> for bridge (3 of 4)."
    assert most_confused(np.diag([1, 2, 0]), CLASSES) == ""


def test_a_matrix_of_other_classes_is_refused():
    for counts, classes in ((COUNTS, CLASSES[:2]), ([[1, 2]], ["a"]), ([], [])):
        with pytest.raises(ValueError, match="a confusion matrix of shape"):
            confusion_matrix(counts, classes)
        with pytest.raises(ValueError, match="a confusion matrix of shape"):
            most_confused(counts, classes)
