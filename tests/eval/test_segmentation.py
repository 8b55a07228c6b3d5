"""Confusion and IoU against scikit-learn's, on label images of indices and of colours."""

from __future__ import annotations

import numpy as np
import pytest
from documents import Document, assert_fetches_nothing
from sklearn import metrics

from eval.errors import InputError
from eval.html.segmentation_page import segmentation_page
from eval.segmentation import OTHER, confusion, label_indices, segmentation_metrics

NAMES = ["road", "building", "water", "tree"]


@pytest.fixture
def scene():
    """Labels of three of four classes and of others, and a prediction that is right in about half of the pixels."""
    rng = np.random.default_rng(0)
    true = rng.choice([0, 1, 2, OTHER], (40, 50), p=[0.5, 0.3, 0.1, 0.1]).astype(np.int16)
    predicted = np.where(rng.random(true.shape) < 0.5, np.maximum(true, 0), rng.integers(0, 3, true.shape))
    predicted[:2] = OTHER
    return predicted, true


def test_counts_and_iou_are_scikit_learns(scene):
    predicted, true = scene
    counts = confusion(predicted, true, 4)
    chosen = (true >= 0) & (predicted >= 0)
    np.testing.assert_array_equal(counts, metrics.confusion_matrix(true[chosen], predicted[chosen], labels=range(4)))
    found = segmentation_metrics(counts, NAMES)
    each = metrics.jaccard_score(true[chosen], predicted[chosen], labels=[0, 1, 2], average=None)
    assert list(found["iou"].values()) == pytest.approx((100 * each).tolist())
    assert found["mIoU"] == pytest.approx(100 * each.mean())
    assert found["accuracy"] == pytest.approx(100 * metrics.accuracy_score(true[chosen], predicted[chosen]))
    recall = metrics.recall_score(true[chosen], predicted[chosen], labels=[0, 1, 2], average="macro")
    assert found["mean_accuracy"] == pytest.approx(100 * recall)
    assert (found["absent"], found["pixels"], list(found["iou"])) == (["tree"], chosen.sum(), NAMES[:3])


def test_images_are_added_up_before_the_mean(scene):
    predicted, true = scene
    halves = sum(confusion(predicted[rows], true[rows], 4) for rows in (slice(0, 7), slice(7, 40)))
    np.testing.assert_array_equal(halves, confusion(predicted, true, 4))


def test_a_class_that_is_predicted_and_not_there_counts_with_nought():
    counts = confusion(np.array([[0, 3]]), np.array([[0, 0]]), 4)
    found = segmentation_metrics(counts, NAMES)
    assert found["iou"] == {"road": 50.0, "tree": 0.0} and found["mIoU"] == 25.0
    assert found["mean_accuracy"] == 50.0  # of the one class that the labels have


def test_labels_are_indices_or_colours():
    indices = np.array([[7, 9], [255, 0]], np.uint8)
    assert label_indices(indices, [9, 7]).tolist() == [[1, 0], [OTHER, OTHER]]
    assert label_indices(indices.astype(np.uint16) * 200, [1400, 1]).tolist() == [[0, OTHER], [OTHER, OTHER]]
    colours = np.array([[[255, 0, 0], [0, 0, 255]], [[0, 255, 0], [255, 0, 1]]], np.uint8)
    assert label_indices(colours, [(0, 0, 255), (255, 0, 0)]).tolist() == [[1, 0], [OTHER, OTHER]]
    with pytest.raises(InputError, match="the label image holds colours, the classes have indices"):
        label_indices(colours, [0, 1])
    with pytest.raises(InputError, match="the label image holds indices, the classes have colours"):
        label_indices(indices, [(0, 0, 0), (1, 1, 1)])


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (lambda: confusion(np.zeros((2, 3), int), np.zeros((3, 2), int), 2), "shape .* does not fit labels of shape"),
        (lambda: confusion(np.array([2]), np.array([0]), 2), "class 2 of 2: indices are 0 to 1"),
        (lambda: segmentation_metrics(np.zeros((2, 2)), ["a", "b"]), "no pixel of the label images is of a class"),
    ],
)
def test_what_does_not_fit_is_one_line(measure, message):
    with pytest.raises(InputError, match=message):
        measure()


def test_the_page_shows_every_class_and_fetches_nothing(scene):
    found = segmentation_metrics(confusion(*scene, 4), NAMES)
    about = {"dataset": "<towns>", "model": "m", "images": 3, "templates": ["a {}"] * 5}
    markup = segmentation_page({**found, **about})
    assert_fetches_nothing(markup)
    document = Document(markup)
    assert document.text("h1") == ["Segmentation of <towns> by m"]
    assert f"{found['mIoU']:.2f}" in document.text("td") and f"{found['iou']['water']:.2f}" in document.text("td")
    assert any("in no mean: tree" in text for text in document.text("figcaption"))
