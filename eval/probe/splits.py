"""Splits of a labelled data set into train, validation and test images, repeatable from a seed or from a file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from eval.errors import InputError
from eval.reading import read_json
from eval.whole import write_text

PARTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """Which rows belong to which part; no row belongs to two.

    Attributes:
      train, validation, test: rows, int64, ascending. Validation is for choices such as that of a regularisation; a
        probe without any learns from train and validation together.
      rule: how the parts came about, for a reader.
      fraction: the share of each class outside the test part, or None where a data set's own parts were taken.
      seed: of the draw, or None where nothing was drawn.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    rule: str
    fraction: float | None
    seed: int | None

    @property
    def train_and_validation(self) -> np.ndarray:
        """Rows outside the test part, int64, ascending."""
        return np.sort(np.concatenate([self.train, self.validation]))

    def describe(self) -> dict:
        """Returns `{"rule": …, "train": N, "validation": N, "test": N}`, the N counting images."""
        return {"rule": self.rule} | {part: len(getattr(self, part)) for part in PARTS}


def split(
    labels: Sequence[str], fraction: float = 0.8, seed: int | None = 0, ids: Sequence[str] | None = None
) -> Split:
    """Splits every class by the same share.

    Of a class of n images int(fraction · n) are not for testing, at least one and at most n - 1, as ITRA's
    `data_split` counts; a fifth of these, at least one where there are two, is for validation.

    Args:
      labels: the class of each row.
      fraction: the share that is not for testing, between 0 and 1.
      seed: images of a class are drawn by it; None takes them in the order of their ids, the test images last, which
        is ITRA's rule and so RemoteCLIP's.
      ids: the id of each row, needed without a seed.

    Raises:
      InputError: a class has fewer than two images.
    """
    if not 0 < fraction < 1:
        raise InputError(f"fraction is {fraction}, expected a number between 0 and 1")
    if seed is None and (ids is None or len(ids) != len(labels)):
        raise InputError("a split without a seed goes by the order of ids: give one id a label")
    rng = None if seed is None else np.random.default_rng(seed)
    parts: list[list[np.ndarray]] = [[], [], []]
    for name, rows in rows_of_classes(labels).items():
        if len(rows) < 2:
            raise InputError(f"class {name!r} has one image: a split needs two, leave the class out")
        if rng is not None:
            rows = rng.permutation(rows)
        elif ids is not None:
            rows = np.array(sorted(rows.tolist(), key=ids.__getitem__), np.int64)
        learnt = min(max(int(fraction * len(rows)), 1), len(rows) - 1)
        chosen_by = max(learnt // 5, 1) if learnt > 1 else 0
        for part, of_class in zip(parts, np.split(rows, [learnt - chosen_by, learnt]), strict=True):
            part.append(of_class)
    share = f"{100 * fraction:g}/{100 * (1 - fraction):g} of each class"
    rule = f"{share}, by the order of ids" if seed is None else f"{share}, seed {seed}"
    train, validation, test = (np.sort(np.concatenate(part)) for part in parts)
    return Split(train, validation, test, rule, fraction, seed)


def rows_of_classes(labels: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns the rows of each class, int64, ascending; classes in the order of their names."""
    classes, numbers = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    bounds = np.cumsum(np.bincount(numbers, minlength=len(classes)))[:-1]
    return dict(zip(classes.tolist(), np.split(np.argsort(numbers, kind="stable"), bounds), strict=True))


def write_split(path: str | os.PathLike, parts: Split, ids: Sequence[str]) -> None:
    """Writes a split as JSON, by ids, so that it can be repeated; whole or not at all.

    Args:
      path: the file, `{"rule", "fraction", "seed", "train": [ids], "validation": [ids], "test": [ids]}`.
      parts: the split.
      ids: the id of each row.

    Raises:
      InputError: the file is there already; two rows have one id.
    """
    path = Path(path)
    if path.exists():
        raise InputError(f"{path} is there already: read it, or choose another name")
    _rows_of(ids)
    named = {part: [ids[row] for row in getattr(parts, part)] for part in PARTS}
    head = {"rule": parts.rule, "fraction": parts.fraction, "seed": parts.seed}
    write_text(path, json.dumps(head | named, indent=1, ensure_ascii=False) + "\n")


def read_split(path: str | os.PathLike, ids: Sequence[str]) -> Split:
    """Reads what `write_split` wrote, for the rows that have these ids.

    Raises:
      InputError: the file is missing or torn; an id of it is of no row, or stands in it twice; a row is in no part;
        nothing is there to train on or to test.
    """
    path = Path(path)
    written: _Written = read_json(path, _Written)
    row_of_id = _rows_of(ids)
    part_of: dict[str, str] = {}
    for part in PARTS:
        for name in getattr(written, part):
            if name not in row_of_id:
                raise InputError(f"{path}: {part} names {name!r:.80}, which is not among the {len(ids):,} images")
            if name in part_of:
                raise InputError(f"{path}: {name!r:.80} is in {part_of[name]} and again in {part}")
            part_of[name] = part
    if len(part_of) < len(ids):
        left = next(name for name in ids if name not in part_of)
        raise InputError(f"{path}: image {left!r} is in no part; the split is of other images")
    if not written.train or not written.test:
        raise InputError(f"{path}: train and test need an image each")
    rows = (np.sort(np.asarray([row_of_id[name] for name in getattr(written, part)], np.int64)) for part in PARTS)
    train, validation, test = rows
    return Split(train, validation, test, written.rule or path.name, written.fraction, written.seed)


class _Written(msgspec.Struct):
    """A split as it lies in a file: the ids of each part."""

    train: list[str]
    validation: list[str]
    test: list[str]
    rule: str = ""
    fraction: float | None = None
    seed: int | None = None


def _rows_of(ids: Sequence[str]) -> dict[str, int]:
    rows = {name: row for row, name in enumerate(ids)}
    if len(rows) < len(ids):
        twice = next(name for row, name in enumerate(ids) if rows[name] != row)
        raise InputError(f"two images have the id {twice!r}: a split names images by their ids")
    return rows
