"""Accuracies below chance: said where texts and labels are out of step, and not where chance explains them."""

from __future__ import annotations

import numpy as np
import pytest

from eval.below_chance import below_chance


def confusion(true, predicted, classes=10):
    return np.bincount(np.asarray(true) * classes + predicted, minlength=classes**2).reshape(classes, classes)


def test_texts_of_the_next_class_are_noticed_and_what_would_be_right():
    true = np.repeat(np.arange(10), 20)
    predicted = (true + 1) % 10
    predicted[:20] = 5  # a class that the model does not know
    said = below_chance(confusion(true, predicted))["warning"]
    assert said.startswith("0.00 per cent are right, below chance (10.00): labels and texts disagree, or")
    assert said.endswith("with the texts of other classes up to 90.00 would be right")


def test_what_is_right_or_by_chance_is_not_noticed():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 10, 1000)
    assert below_chance(confusion(true, true)) == {}
    found = [below_chance(confusion(true, rng.permutation(true))) for _ in range(300)]
    assert sum(map(bool, found)) <= 2  # of 300, once in 1,000 each


def test_a_model_that_puts_all_into_the_smallest_class_is_not_below_chance():
    true = np.repeat(np.arange(10), [20, *[220] * 9])
    assert 100 * 20 / len(true) < 2 < 100 / 10  # of a uniform guess it would be
    assert below_chance(confusion(true, np.zeros(len(true), int))) == {}


@pytest.mark.parametrize("images", [3, 30])
def test_few_images_prove_nothing(images):
    true = np.arange(images) % 3
    wrong = below_chance(confusion(true, (true + 1) % 3, 3))
    assert bool(wrong) == (images == 30)  # (2/3)^3 = 0.3, (2/3)^30 = 5e-6
