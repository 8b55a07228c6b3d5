"""ITRA's linear probe, by which RemoteCLIP was measured: a linear layer trained by SGD, at its best epoch.

As `logistic_regression_pytorch` of itra/evaluation/linear_eval.py, branch test, whose settings are fixed: 1,000 epochs
of batches of 10,000 rows in their order, momentum 0.9, weight decay 4e-5 also of the bias, and a learning rate that
falls from 0.8 to 0 by a cosine. The epoch is chosen on the test images themselves, so its accuracy flatters; it is here
to stand next to RemoteCLIP's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from eval.probe.labelled import accuracy, classification, numbered

EPOCHS, RATE, MOMENTUM, DECAY, BATCH = 1000, 0.8, 0.9, 4e-5, 10_000
SPREAD = 0.01  # standard deviation of the first weights


def sgd_layer(
    train, train_labels: Sequence[str], test, test_labels: Sequence[str], epochs: int = EPOCHS, seed: int = 0
) -> dict:
    """Trains a linear layer and tests it after every epoch.

    Args:
      train: rows [N, D], not normalised, in the order in which batches take them.
      train_labels: N class names.
      test: rows [M, D].
      test_labels: M class names.
      epochs: how many.
      seed: of the first weights, which ITRA draws without one.

    Returns:
      `{"accuracy", "mean_per_class_recall", "confusion", "classes"}` of the best epoch, the first of equal ones,
      `{"estimator" in words, "epoch", "accuracy_last", "epochs", "seed", "counts": {"train", "test"}}`. Accuracies are
      in per cent.

    Raises:
      InputError: parts do not fit together, or one is empty.
    """
    classes, (train, test) = numbered(train=(train, train_labels), test=(test, test_labels))
    drawn = np.random.default_rng(seed).normal(0, SPREAD, (train.rows.shape[1], len(classes)))
    layer = np.concatenate([drawn, np.zeros((1, len(classes)))]).astype(np.float32)  # the last row is the bias
    learnt, tested = (
        np.concatenate([part.rows, np.ones((len(part.rows), 1), np.float32)], 1) for part in (train, test)
    )
    velocity, best, epoch_of_best = np.zeros_like(layer), np.zeros(0, np.int64), 0
    bar = tqdm(range(1, epochs + 1), "linear layer", unit="epoch", delay=1, disable=None, leave=False)
    for epoch in bar:
        rate = np.float32(RATE * (1 + np.cos(np.pi * (epoch - 1) / epochs)) / 2)
        for start in range(0, len(learnt), BATCH):
            rows, true = learnt[start : start + BATCH], train.classes[start : start + BATCH]
            gradient = rows.T @ (_softmax(rows @ layer) - np.eye(len(classes), dtype=np.float32)[true])
            velocity = np.float32(MOMENTUM) * velocity + gradient / np.float32(len(rows)) + np.float32(DECAY) * layer
            layer = layer - rate * velocity
        predicted = (tested @ layer).argmax(axis=1)
        if not epoch_of_best or accuracy(test.classes, predicted) > accuracy(test.classes, best):
            best, epoch_of_best = predicted, epoch
    return {
        **classification(classes, test.classes, best),
        "estimator": "a linear layer by SGD, its best epoch on the test images",
        "epoch": epoch_of_best,
        "accuracy_last": accuracy(test.classes, predicted),
        "epochs": epochs,
        "seed": seed,
        "counts": {"train": len(train.rows), "test": len(test.rows)},
    }


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
