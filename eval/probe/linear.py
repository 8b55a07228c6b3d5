"""Linear probe: a logistic regression whose regularisation is chosen on validation images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.errors import InputError
from eval.probe.labelled import accuracy, classification, numbered
from eval.probe.logistic import MAX_ITERATIONS, converged, fit, fits, root_mean_square, scaled

CS = tuple(10.0**power for power in range(-4, 3))


def linear_probe(
    train,
    train_labels: Sequence[str],
    validation,
    validation_labels: Sequence[str],
    test,
    test_labels: Sequence[str],
    Cs: Sequence[float] = CS,
) -> dict:
    """Fits a logistic regression for each C, takes the best on validation images, refits it on both and tests that.

    As in CLIP's protocol features are not standardised one by one, and lbfgs takes at most 1,000 iterations. All
    values are divided by `rms`, the root mean square of those of `train`. This changes no model, only what C means: it
    is C / rms² on the rows as they are, and one grid serves rows of any length.

    Args:
      train, validation, test: rows [N, D], not normalised.
      train_labels, validation_labels, test_labels: class names, one a row; every class is in train.
      Cs: inverse regularisations to choose from. Of equally good ones the smallest is taken.

    Returns:
      `{"accuracy", "mean_per_class_recall", "confusion", "classes"}` of the test images, `{"C", "rms", "validation":
      {C: accuracy}, "counts": {"train", "validation", "test"}}`, the `estimator` in words, and a `note` where a fit did
      not converge or the best C is at an end of the grid. Accuracies and recalls are in per cent.

    Raises:
      InputError: parts do not fit together, or one is empty.
    """
    if not Cs or min(Cs) <= 0:
        raise InputError(f"Cs must be one or more positive numbers, got {tuple(Cs)}")
    classes, (train, validation, test) = numbered(
        train=(train, train_labels), validation=(validation, validation_labels), test=(test, test_labels)
    )
    rms = root_mean_square(train.rows)
    train_rows = scaled(train.rows, rms)

    def on_validation(C: float) -> tuple[float, bool]:
        model = fit(train_rows, train.classes, C, rms)
        return accuracy(validation.classes, model.predict(validation.rows)), converged(model)

    Cs = sorted(Cs)
    scores, ended = zip(*fits(on_validation, Cs, "linear probe"), strict=True)
    best = Cs[int(np.argmax(scores))]
    both = np.concatenate([train_rows, scaled(validation.rows, rms)])
    both_classes = np.concatenate([train.classes, validation.classes])
    (model,) = fits(lambda C: fit(both, both_classes, C, rms), [best], "linear probe, refit")
    note = _note(Cs, best, [C for C, well in zip(Cs, ended, strict=True) if not well], converged(model))
    return {
        **classification(classes, test.classes, model.predict(test.rows)),
        "estimator": "logistic regression, C chosen on validation images",
        "C": best,
        "rms": rms,
        "validation": {f"{C:g}": score for C, score in zip(Cs, scores, strict=True)},
        "counts": {"train": len(train.rows), "validation": len(validation.rows), "test": len(test.rows)},
        **({"note": note} if note else {}),
    }


def _note(Cs: Sequence[float], best: float, unfinished: Sequence[float], well: bool) -> str:
    notes = []
    if len(Cs) > 1 and best in (Cs[0], Cs[-1]):
        notes.append(f"the best C, {best:g}, is the {'smallest' if best == Cs[0] else 'largest'} that was tried")
    if unfinished:
        tried = ", ".join(f"{C:g}" for C in unfinished)
        notes.append(f"no convergence in {MAX_ITERATIONS:,} iterations with C = {tried}")
    if not well:
        notes.append(f"the final fit did not converge in {MAX_ITERATIONS:,} iterations")
    return "; ".join(notes)
