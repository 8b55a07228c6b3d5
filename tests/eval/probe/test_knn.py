"""k-NN against scikit-learn's classifier, and the votes by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from eval.errors import InputError
from eval.probe.knn import knn, majority_vote, weighted_vote
from eval.probe.neighbours import neighbours


def classes_of_rows(count, seed, classes=5, dim=16):
    """Unit rows around a centre for each class, wide enough that some are nearer to another one."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(classes, dim))
    numbers = rng.integers(classes, size=count)
    rows = centres[numbers] + 1.6 * rng.normal(size=(count, dim))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32), [f"class {number}" for number in numbers]


def test_equal_to_scikit_learn():
    train, labels = classes_of_rows(300, 1)
    test, truth = classes_of_rows(150, 2)
    rows, scores = neighbours(train, test, 20)
    names = np.asarray(labels)
    voters = np.unique(names, return_inverse=True)[1][rows]

    def theirs(weights):
        model = KNeighborsClassifier(20, weights=weights, metric="cosine", algorithm="brute").fit(train, names)
        return model.predict(test)

    weighted = theirs(lambda distances: np.exp((1 - distances) / 0.07))
    assert [f"class {number}" for number in weighted_vote(voters, scores, 5, 0.07)] == weighted.tolist()
    # scikit-learn gives a tie of votes to the first class, whatever the similarities.
    counts = np.stack([np.bincount(row, minlength=5) for row in voters])
    alone = np.count_nonzero(counts == counts.max(axis=1, keepdims=True), axis=1) == 1
    uniform = theirs("uniform")
    majority = np.asarray([f"class {number}" for number in majority_vote(voters, scores, 5)])
    assert 100 < alone.sum() < 150
    np.testing.assert_array_equal(majority[alone], uniform[alone])

    result = knn(train, labels, test, truth)
    assert result["accuracy"] == 100 * np.mean(majority == truth)
    assert result["accuracy_weighted"] == 100 * np.mean(weighted == truth)
    assert 50 < result["accuracy"] < 100
    assert (result["k"], result["temperature"], result["counts"]) == (20, 0.07, {"train": 300, "test": 150})


def test_ties_of_votes_go_to_the_more_similar_class_and_then_to_the_first():
    voters = np.asarray([[2, 1, 1, 2, 0], [2, 1, 1, 2, 0]])
    scores = np.asarray([[9.0, 8, 7, 5, 1], [9.0, 8, 7, 6, 1]]) * 1e6
    assert majority_vote(voters, scores, 3).tolist() == [1, 1]  # 15 to 14, then 15 to 15
    assert majority_vote(voters, scores[::-1] * 0 + [9e6, 8e6, 7e6, 7e6, 1e6], 3).tolist() == [2, 2]


def test_a_near_neighbour_outweighs_two_far_ones():
    voters, scores = np.asarray([[1, 0, 0]]), np.asarray([[9e6, 7e6, 7e6]])
    assert majority_vote(voters, scores, 2).tolist() == [0]
    assert weighted_vote(voters, scores, 2, temperature=0.07).tolist() == [1]  # exp(0.2 / 0.07) = 17
    assert weighted_vote(voters, scores, 2, temperature=1.0).tolist() == [0]  # exp(0.2) = 1.2
    assert weighted_vote(voters, scores, 2, temperature=1e-6).tolist() == [1]  # exp(900,000) would overflow


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"k": 7}, "k is 7, expected a number between 1 and the 6 train rows"),
        ({"temperature": 0}, "temperature is 0"),
        ({"train_labels": list("aabba")}, "train has 6 rows and 5 labels"),
        ({"train_labels": ["a"] * 6}, "train has images of fewer than two classes"),
        ({"test": np.empty((0, 6)), "test_labels": []}, "test has no images"),
        ({"test_labels": list("aabbac")}, "class 'c' has test images and none in train"),
        ({"test": np.eye(6) * 3}, "row 0 of queries has length 3"),
        ({"test": np.eye(5), "test_labels": list("aabba")}, "train has 6 dimensions and test 5"),
        ({"test": np.eye(6)[0]}, "test must be a matrix"),
        ({"train": np.diag([1, 1, np.nan, 1, 1, 1])}, "row 2 of train has NaN"),
    ],
)
def test_bad_input(wrong, message):
    good = {"train": np.eye(6), "train_labels": list("aabbab"), "test": np.eye(6), "test_labels": list("aabbab")}
    with pytest.raises(InputError, match=message):
        knn(**good | wrong)
