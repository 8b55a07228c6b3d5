"""Segmentation: how well the classes of pixels fit label images, as intersection over union (mIoU).

A pixel whose label is none of the classes counts nowhere. The IoU of a class is the share of the pixels that both the
labels and the prediction call so among those that either does; mIoU is its mean over the classes that occur in either,
counted over all images together, as mmsegmentation and SegEarth-OV do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.errors import InputError

OTHER = -1  # the index of a label that is none of the classes

Value = int | tuple[int, int, int]  # of a class in a label image: an index, or a colour


def label_indices(labels: np.ndarray, values: Sequence[Value]) -> np.ndarray:
    """Returns the class of every pixel of a label image, int16 [H, W], `OTHER` for none.

    Args:
      labels: of indices, an integer [H, W], or of colours, uint8 [H, W, 3].
      values: of each class: whole numbers for indices, (r, g, b) for colours.

    Raises:
      InputError: the image holds indices and the values are colours, or the reverse.
    """
    labels = np.asarray(labels)
    coloured = labels.ndim == 3
    if any(isinstance(value, int) == coloured for value in values):
        holds, have = ("colours", "indices") if coloured else ("indices", "colours")
        raise InputError(f"the label image holds {holds}, the classes have {have}")
    codes = _code(labels) if coloured else labels
    found = np.full(codes.shape, OTHER, np.int16)
    for number, value in enumerate(values):
        found[codes == (_code(np.array(value)) if coloured else value)] = number
    return found


def confusion(predicted: np.ndarray, true: np.ndarray, classes: int) -> np.ndarray:
    """Returns how many pixels of each class (row) were taken for each (column), int64 [C, C].

    Args:
      predicted: indices of classes, an integer [H, W]; `OTHER` where nothing is predicted, which counts nowhere.
      true: indices, or `OTHER`, of the same shape.
      classes: C.

    Raises:
      InputError: the shapes differ, or an index is no class.
    """
    predicted, true = np.asarray(predicted), np.asarray(true)
    if predicted.shape != true.shape:
        raise InputError(f"a prediction of shape {predicted.shape} does not fit labels of shape {true.shape}")
    counted = (true != OTHER) & (predicted != OTHER)
    rows, columns = true[counted].astype(np.int64), predicted[counted].astype(np.int64)
    for indices in (rows, columns):
        if len(indices) and not 0 <= indices.min() <= indices.max() < classes:
            raise InputError(f"class {indices.max()} of {classes}: indices are 0 to {classes - 1}")
    return np.bincount(rows * classes + columns, minlength=classes**2).reshape(classes, classes)


def segmentation_metrics(counts: np.ndarray, classes: Sequence[str]) -> dict:
    """Returns the metrics of a confusion matrix, int [C, C], true classes down; in per cent.

    Returns:
      `{"mIoU", "iou": {class: …}, "accuracy": share of right pixels, "mean_accuracy": mean recall of the classes that
      the labels have, "pixels", "absent": classes that neither labels nor predictions have, which the means leave out,
      "confusion", "classes"}`.

    Raises:
      InputError: no pixel counts.
    """
    counts = np.asarray(counts, np.int64)
    right, true, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    either = true + predicted - right
    if not counts.any():
        raise InputError("no pixel of the label images is of a class: their values and those of the classes differ")
    iou = {name: 100 * float(right[n] / either[n]) for n, name in enumerate(classes) if either[n]}
    return {
        "mIoU": float(np.mean(list(iou.values()))),
        "iou": iou,
        "accuracy": 100 * float(right.sum() / counts.sum()),
        "mean_accuracy": 100 * float(np.mean(right[true > 0] / true[true > 0])),
        "pixels": int(counts.sum()),
        "absent": [name for n, name in enumerate(classes) if not either[n]],
        "confusion": counts.tolist(),
        "classes": list(classes),
    }


def _code(colours: np.ndarray) -> np.ndarray:
    return colours.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
