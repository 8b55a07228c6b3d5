"""The probes over an embedding set: which rows they take, and which images are for training and which for testing.

Linear probe and few-shot take rows as the image tower gave them, k-NN takes unit rows: so does ITRA, RemoteCLIP's
code. Whether features are projected or the encoder's own is decided where a set is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from eval.embeddings import EmbeddingSet
from eval.errors import InputError
from eval.probe.few_shot import few_shot
from eval.probe.knn import knn
from eval.probe.linear import linear_probe
from eval.probe.sgd_layer import sgd_layer
from eval.probe.splits import PARTS, Split, split
from eval.scores import check_unit_rows

_PART_OF_NAME = {part: part for part in PARTS} | {"valid": "validation", "val": "validation"}


def linear_probe_of_set(embedding_set: EmbeddingSet, seed: int = 0, parts: Split | None = None) -> dict:
    """Returns the result of `linear_probe` and its `split`; `parts` is `split_of_set` with the seed unless given."""
    parts = parts or split_of_set(embedding_set, seed)
    train, validation, test = (_raw(embedding_set, rows) for rows in (parts.train, parts.validation, parts.test))
    with _naming(embedding_set):
        check_unit_rows(embedding_set.images, "images")
        return linear_probe(*train, *validation, *test) | {"split": parts.describe()}


def knn_of_set(embedding_set: EmbeddingSet, seed: int = 0, parts: Split | None = None) -> dict:
    """Returns the result of `knn` and its `split`; validation images are among those to look among."""
    parts = parts or split_of_set(embedding_set, seed)
    train, test = (_unit(embedding_set, rows) for rows in (parts.train_and_validation, parts.test))
    with _naming(embedding_set):
        check_unit_rows(embedding_set.images, "images")
        return knn(*train, *test) | {"split": parts.describe()}


def few_shot_of_set(embedding_set: EmbeddingSet, seed: int = 0, parts: Split | None = None) -> dict:
    """Returns the result of `few_shot` and its `split`; validation images are among those to draw from."""
    parts = parts or split_of_set(embedding_set, seed)
    train, test = (_raw(embedding_set, rows) for rows in (parts.train_and_validation, parts.test))
    with _naming(embedding_set):
        check_unit_rows(embedding_set.images, "images")
        return few_shot(*train, *test, seed=seed) | {"split": parts.describe()}


def itra_linear_of_set(embedding_set: EmbeddingSet) -> dict:
    """Returns the result of `sgd_layer` by ITRA's split, and its `split`: the linear probe of RemoteCLIP's numbers."""
    parts, order = itra_split(embedding_set)
    train = order[np.isin(order, parts.train)]
    with _naming(embedding_set):
        return sgd_layer(*_raw(embedding_set, train), *_raw(embedding_set, parts.test)) | {"split": parts.describe()}


def itra_knn_of_set(embedding_set: EmbeddingSet) -> dict:
    """Returns the result of `knn` by ITRA's split, and its `split`; ITRA's vote is the weighted one."""
    parts, _ = itra_split(embedding_set)
    train, test = (_unit(embedding_set, rows) for rows in (parts.train, parts.test))
    with _naming(embedding_set):
        return knn(*train, *test) | {"split": parts.describe()}


def itra_split(embedding_set: EmbeddingSet) -> tuple[Split, np.ndarray]:
    """Returns ITRA's split, the last fifth of the files of each class for testing, and all rows in its order."""
    labels, ids = _labels(embedding_set), [image["id"] for image in embedding_set.image_rows]
    with _naming(embedding_set):
        drawn = split(labels, seed=None, ids=ids)
    parts = replace(drawn, train=drawn.train_and_validation, validation=np.zeros(0, np.int64))
    order = sorted(range(len(ids)), key=lambda row: (labels[row], ids[row]))
    return parts, np.asarray(order, np.int64)


def split_of_set(embedding_set: EmbeddingSet, seed: int = 0) -> Split:
    """Returns the data set's own split where its images name one, else 80/20 of each class by the seed.

    Own parts are "train", "val", "valid" or "validation", and "test"; without a validation part a fifth of the train
    images of each class, by the seed, becomes one. A set that holds one split only is divided as if it named none.

    Raises:
      InputError: images have no labels, a class is too small, some images name a split and others do not, or one that
        is unknown, or train or test has no images.
    """
    labels = _labels(embedding_set)
    names = [image.get("split") or "" for image in embedding_set.image_rows]
    where = f"{embedding_set.path}/images.jsonl"
    if len(set(names)) == 1:
        with _naming(embedding_set):
            return split(labels, seed=seed)
    for line, name in enumerate(names, 1):
        if not name:
            raise InputError(f"{where}, line {line}: no split, other images name one")
        if name not in _PART_OF_NAME:
            raise InputError(f"{where}, line {line}: the split is {name!r}, known: {', '.join(_PART_OF_NAME)}")
    of_row = np.asarray([_PART_OF_NAME[name] for name in names])
    rows = {part: np.flatnonzero(of_row == part) for part in PARTS}
    for part in ("train", "test"):
        if not len(rows[part]):
            raise InputError(f"{where}: no image is of the split {part!r}")
    own = Split(**rows, rule="the data set's own", fraction=None, seed=None)
    with _naming(embedding_set):
        return own if len(own.validation) else _with_validation(own, labels, seed)


def _with_validation(own: Split, labels: list[str], seed: int) -> Split:
    drawn = split([labels[row] for row in own.train], seed=seed)
    train, validation = own.train[drawn.train_and_validation], own.train[drawn.test]
    rule = f"{own.rule}, validation drawn, seed {seed}"
    return replace(own, train=train, validation=validation, rule=rule, seed=seed)


@contextmanager
def _naming(embedding_set: EmbeddingSet) -> Iterator[None]:
    """Puts the set's folder before the words of an error."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{embedding_set.path}: {error}") from None


def _labels(embedding_set: EmbeddingSet) -> list[str]:
    labels = embedding_set.labels()
    if labels is None:
        raise InputError(f"{embedding_set.path}: its images have no labels, and a probe needs them")
    return labels


def _unit(embedding_set: EmbeddingSet, rows: np.ndarray) -> tuple[np.ndarray, list[str]]:
    labels = _labels(embedding_set)
    return embedding_set.images[rows], [labels[row] for row in rows]


def _raw(embedding_set: EmbeddingSet, rows: np.ndarray) -> tuple[np.ndarray, list[str]]:
    unit, labels = _unit(embedding_set, rows)
    return unit * embedding_set.image_norms[rows, None], labels
