"""k-NN classification by cosine: majority vote and temperature-weighted vote of exact neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.errors import InputError
from eval.probe.labelled import accuracy, numbered
from eval.probe.neighbours import neighbours
from eval.scores import SCALE

K = 20
TEMPERATURE = 0.07


def knn(
    train,
    train_labels: Sequence[str],
    test,
    test_labels: Sequence[str],
    k: int = K,
    temperature: float = TEMPERATURE,
) -> dict:
    """Classifies test images by their k nearest train images.

    k and temperature are ITRA's, so RemoteCLIP's, whose vote is the weighted one; RSCLIP takes k over and does not
    state its vote.

    Args:
      train: unit rows [N, D] to look among.
      train_labels: N class names.
      test: unit rows [M, D].
      test_labels: M class names.
      k: neighbours an image.
      temperature: of the weights exp(similarity / temperature).

    Returns:
      `{"accuracy": by majority vote, "accuracy_weighted": …, "k", "temperature", "counts": {"train", "test"}}`;
      accuracies in per cent. `estimator` says in words what `accuracy` is of.

    Raises:
      InputError: k is more than the train images, a row is not of unit length, parts do not fit together.
    """
    if not temperature > 0:
        raise InputError(f"temperature is {temperature}, expected a positive number")
    classes, (train, test) = numbered(train=(train, train_labels), test=(test, test_labels))
    rows, scores = neighbours(train.rows, test.rows, k)
    voters = train.classes[rows]
    return {
        "accuracy": accuracy(test.classes, majority_vote(voters, scores, len(classes))),
        "accuracy_weighted": accuracy(test.classes, weighted_vote(voters, scores, len(classes), temperature)),
        "estimator": f"majority vote of {k} neighbours",
        "k": k,
        "temperature": temperature,
        "counts": {"train": len(train.rows), "test": len(test.rows)},
    }


def majority_vote(voters: np.ndarray, scores: np.ndarray, classes: int) -> np.ndarray:
    """Returns the class of most neighbours, int64 [M]: among equals the more similar ones' in sum, then the first.

    Args:
      voters: class numbers of the neighbours, int [M, k].
      scores: their similarities in units of 1e-7, float64 [M, k].
      classes: how many there are.
    """
    votes = _summed(voters, np.ones_like(scores), classes)
    most = votes == votes.max(axis=1, keepdims=True)
    return np.where(most, _summed(voters, scores, classes), -np.inf).argmax(axis=1)


def weighted_vote(voters: np.ndarray, scores: np.ndarray, classes: int, temperature: float) -> np.ndarray:
    """Returns the class of the largest sum of exp(similarity / temperature), int64 [M] (inputs: `majority_vote`)."""
    nearer = scores - scores.max(axis=1, keepdims=True)  # a factor that all votes share, so that none overflows
    return _summed(voters, np.exp(nearer / (SCALE * temperature)), classes).argmax(axis=1)


def _summed(voters: np.ndarray, weights: np.ndarray, classes: int) -> np.ndarray:
    """Float64 [M, C]: the weights of each class's voters."""
    cells = voters + classes * np.arange(len(voters))[:, None]
    sums = np.bincount(cells.ravel(), weights=weights.ravel(), minlength=classes * len(voters))
    return sums.reshape(len(voters), classes)
