"""Few-shot: which images are drawn, and scikit-learn on just these."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from eval.errors import InputError
from eval.probe.few_shot import drawn_orders, few_shot


def labelled(count, seed, classes=3, dim=8):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(classes, dim))
    numbers = np.arange(count) % classes
    rows = 5 * (centres[numbers] + 1.3 * rng.normal(size=(count, dim)))
    return rows.astype(np.float32), [f"class {number}" for number in numbers]


def test_a_draw_orders_the_images_of_each_class():
    classes = np.asarray([2, 0, 1, 0, 2, 0, 1, 2, 2])
    orders = drawn_orders(classes, seed=3, draw=1)
    assert [sorted(order) for order in orders] == [[1, 3, 5], [2, 6], [0, 4, 7, 8]]
    many = np.arange(300) % 2
    draws = [drawn_orders(many, seed, draw)[0].tolist() for seed in (0, 1) for draw in (0, 1)]
    assert len({tuple(draw) for draw in draws}) == 4
    assert draws[0] == drawn_orders(many, 0, 0)[0].tolist()


def test_equal_to_scikit_learn_on_the_drawn_images():
    """With C = 1 on values of root mean square one, over the drawn images: C / rms² on the rows as they are."""
    (train, labels), (test, truth) = labelled(60, 1), labelled(90, 2)
    result = few_shot(train, labels, test, truth, shots=(1, 4, 16), draws=3, seed=5)
    numbers = np.unique(labels, return_inverse=True)[1]
    for count in (1, 4, 16):
        accuracies = []
        for draw in range(3):
            drawn = np.concatenate([order[:count] for order in drawn_orders(numbers, 5, draw)])
            rows = train[drawn].astype(np.float64)
            model = LogisticRegression(C=1 / np.mean(rows**2), solver="newton-cholesky", tol=1e-8)
            accuracies.append(100 * model.fit(rows, np.asarray(labels)[drawn]).score(test, truth))
        found = result["shots"][str(count)]
        assert found["accuracies"] == pytest.approx(accuracies)
        assert found["mean"] == pytest.approx(np.mean(accuracies))
        assert found["std"] == pytest.approx(np.std(accuracies, ddof=1))
    assert result["shots"]["16"]["mean"] > result["shots"]["1"]["mean"] > 100 / 3
    assert {key: result[key] for key in result if key != "shots"} == {
        "estimator": "logistic regression, C = 1",
        "draws": 3,
        "seed": 5,
        "C": 1.0,
        "counts": {"classes": 3, "train": 60, "test": 90},
    }


def test_more_draws_or_other_shots_leave_a_draw_as_it_is():
    parts = (*labelled(60, 1), *labelled(90, 2))
    few, more = (few_shot(*parts, shots=shots, draws=draws) for shots, draws in (((4,), 1), ((1, 4), 3)))
    assert few["shots"]["4"]["accuracies"] == more["shots"]["4"]["accuracies"][:1]
    assert few["shots"]["4"]["std"] == 0.0


def test_shots_that_a_class_does_not_have_are_left_out_with_a_note():
    train, labels = labelled(31, 1)
    result = few_shot(train, labels, train, labels, shots=(1, 10, 11, 32), draws=1)
    assert list(result["shots"]) == ["1", "10"]
    assert result["note"] == "11, 32 shots are left out: class 'class 1' has 10 train images"


def test_one_shot_of_many_classes_is_no_regression(recwarn):
    train, labels = labelled(60, 1, classes=30)
    few_shot(train, labels, train, labels, shots=(1,), draws=1)
    assert not recwarn.list


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"shots": ()}, "shots and draws must be whole numbers from 1"),
        ({"shots": (0, 1)}, "shots and draws must be whole numbers from 1"),
        ({"draws": 0}, "shots and draws must be whole numbers from 1"),
        ({"shots": (3, 4)}, "class 'b' has 2 train images: too few for 3 shots"),
        ({"test_labels": ["z"]}, "class 'z' has test images and none in train"),
    ],
)
def test_bad_input(wrong, message):
    good = {"train": np.eye(5), "train_labels": list("ababa"), "test": np.eye(5)[:1], "test_labels": ["a"]}
    with pytest.raises(InputError, match=message):
        few_shot(**good | wrong)
