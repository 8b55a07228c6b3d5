"""Labelled rows as a probe reads them: checked, with classes as numbers; and what its predictions are worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from eval.errors import InputError


class LabelledRows(NamedTuple):
    """Rows, float32 [N, D], and the number of each one's class, int64 [N]."""

    rows: np.ndarray
    classes: np.ndarray


def numbered(**parts: tuple[np.ndarray, Sequence[str]]) -> tuple[list[str], list[LabelledRows]]:
    """Returns the classes by name, in order, and the parts with a number for each label.

    Args:
      **parts: rows [N, D] and labels of each part, by its name; the first one is learnt from and has every class.

    Raises:
      InputError: rows and labels, or the dimensions of two parts, do not fit together; a value is not finite; there
        are fewer than two classes; a class of a later part is not in the first.
    """
    first, (_, labels) = next(iter(parts.items()))
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise InputError(f"{first} has images of fewer than two classes: there is nothing to tell apart")
    number_of = {name: number for number, name in enumerate(classes)}
    found: list[LabelledRows] = []
    for part, (rows, labels) in parts.items():
        rows = _matrix(part, rows)
        if len(rows) != len(labels):
            raise InputError(f"{part} has {len(rows)} rows and {len(labels)} labels")
        if found and rows.shape[1] != found[0].rows.shape[1]:
            dims = f"{first} has {found[0].rows.shape[1]} dimensions and {part} {rows.shape[1]}"
            raise InputError(f"{dims}: embed both with one model")
        for name in labels:
            if name not in number_of:
                raise InputError(f"class {name!r} has {part} images and none in {first}: nothing to learn it from")
        found.append(LabelledRows(rows, np.asarray([number_of[name] for name in labels], np.int64)))
    return classes, found


def classification(classes: Sequence[str], true: np.ndarray, predicted: np.ndarray) -> dict:
    """Returns `{"accuracy", "mean_per_class_recall"}` in per cent, `{"confusion", "classes"}`.

    Args:
      classes: C names.
      true, predicted: class numbers, int [N].

    Returns:
      In `confusion`, a list of C lists of counts, rows are true classes and columns predicted ones. A class without
      images has no recall and is not in the mean.
    """
    count = len(classes)
    confusion = np.bincount(true * count + predicted, minlength=count * count).reshape(count, count)
    images = confusion.sum(axis=1)
    recalls = np.diag(confusion)[images > 0] / images[images > 0]
    return {
        "accuracy": accuracy(true, predicted),
        "mean_per_class_recall": 100 * float(recalls.mean()),
        "confusion": confusion.tolist(),
        "classes": list(classes),
    }


def accuracy(true: np.ndarray, predicted: np.ndarray) -> float:
    """Returns the share of right predictions in per cent."""
    return 100 * float(np.mean(true == predicted))


def _matrix(part: str, rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float32)
    if rows.ndim != 2 or not rows.shape[1]:
        raise InputError(f"{part} must be a matrix, a row an image, got the shape {rows.shape}")
    if not len(rows):
        raise InputError(f"{part} has no images")
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise InputError(f"row {int(np.argmin(finite))} of {part} has NaN or infinite values: mend its model")
    return rows
