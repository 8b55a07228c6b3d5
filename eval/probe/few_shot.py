"""Few-shot classification: logistic regression on a few drawn images of each class, mean and spread over draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.errors import InputError
from eval.probe.labelled import accuracy, numbered
from eval.probe.logistic import MAX_ITERATIONS, converged, fit, fits, root_mean_square, scaled

SHOTS = (1, 4, 8, 16, 32)
DRAWS = 5
C = 1.0


def few_shot(
    train,
    train_labels: Sequence[str],
    test,
    test_labels: Sequence[str],
    shots: Sequence[int] = SHOTS,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict:
    """Fits a logistic regression on a few images of each class, several times, and tests it.

    The shots are RSCLIP's, five draws are ITRA's. RSCLIP names scikit-learn's logistic regression and no parameters:
    C is scikit-learn's default, 1, on values of root mean square one over the drawn images, for nothing is left to
    choose it on. A draw takes the first images of one random order of each class, so the images of fewer shots are
    among those of more.

    Args:
      train: rows [N, D] to draw from, not normalised.
      train_labels: N class names.
      test: rows [M, D].
      test_labels: M class names.
      shots: images a class. Those that the smallest class does not have are left out, with a note.
      draws: how many.
      seed: of the draws; draw i is the same however many there are.

    Returns:
      `{"shots": {"1": {"mean", "std", "accuracies": [one a draw]}, …}, "draws", "seed", "C", "counts": {"classes",
      "train", "test"}}`, the `estimator` in words, and perhaps a `note`. Accuracies are in per cent; std is the sample
      standard deviation, 0 of a single draw.

    Raises:
      InputError: parts do not fit together, or no shot is left.
    """
    if not shots or min(shots) < 1 or draws < 1:
        raise InputError(f"shots and draws must be whole numbers from 1, got {tuple(shots)} and {draws}")
    classes, (train, test) = numbered(train=(train, train_labels), test=(test, test_labels))
    kept, smallest = _affordable(shots, train.classes, classes)
    orders = [drawn_orders(train.classes, seed, draw) for draw in range(draws)]
    test_rows = test.rows.astype(np.float64)

    def score(task: tuple[int, int]) -> tuple[float, bool]:
        count, draw = task
        chosen = np.concatenate([order[:count] for order in orders[draw]])
        rms = root_mean_square(train.rows[chosen])
        model = fit(scaled(train.rows[chosen], rms), train.classes[chosen], C, rms)
        return accuracy(test.classes, model.predict(test_rows)), converged(model)

    tasks = [(count, draw) for count in kept for draw in range(draws)]
    scores, ended = zip(*fits(score, tasks, "few-shot"), strict=True)
    table = zip(kept, np.reshape(scores, (len(kept), draws)), strict=True)
    return {
        "shots": {str(count): _summary(accuracies) for count, accuracies in table},
        "estimator": f"logistic regression, C = {C:g}",
        "draws": draws,
        "seed": seed,
        "C": C,
        "counts": {"classes": len(classes), "train": len(train.rows), "test": len(test.rows)},
        **_note(sorted(set(shots) - set(kept)), smallest, ended),
    }


def _affordable(shots: Sequence[int], labels: np.ndarray, classes: Sequence[str]) -> tuple[list[int], str]:
    """Returns the shots that every class has, ascending, and in words how many images the smallest class has."""
    sizes = np.bincount(labels)
    smallest = f"class {classes[int(sizes.argmin())]!r} has {sizes.min()} train images"
    kept = sorted({count for count in shots if count <= sizes.min()})
    if not kept:
        raise InputError(f"{smallest}: too few for {min(shots)} shots")
    return kept, smallest


def _note(left_out: Sequence[int], smallest: str, ended: Sequence[bool]) -> dict[str, str]:
    notes = []
    if left_out:
        notes.append(f"{', '.join(map(str, left_out))} shots are left out: {smallest}")
    if not all(ended):
        notes.append(f"{ended.count(False)} of {len(ended)} fits did not converge in {MAX_ITERATIONS:,} iterations")
    return {"note": "; ".join(notes)} if notes else {}


def drawn_orders(classes: np.ndarray, seed: int, draw: int) -> list[np.ndarray]:
    """Returns the rows of each class in the order of a draw, int64; k shots take the first k of each."""
    rng = np.random.default_rng([seed, draw])
    return [rng.permutation(np.flatnonzero(classes == number)) for number in range(classes.max() + 1)]


def _summary(accuracies: np.ndarray) -> dict:
    spread = float(accuracies.std(ddof=1)) if len(accuracies) > 1 else 0.0
    return {"mean": float(accuracies.mean()), "std": spread, "accuracies": accuracies.tolist()}
