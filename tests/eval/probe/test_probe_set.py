"""The probes over a set: the parts that its images name, and which rows a probe takes."""

from __future__ import annotations

import numpy as np
import pytest

from eval.embeddings import open_set, write_set
from eval.errors import InputError
from eval.probe.few_shot import few_shot
from eval.probe.knn import knn
from eval.probe.linear import linear_probe
from eval.probe.probe_set import few_shot_of_set, knn_of_set, linear_probe_of_set, split_of_set
from eval.probe.splits import PARTS, read_split, split, write_split

META = {"model": "m", "dataset": "d", "features": "encoder"}
SIZE = 120


def image_labels():
    return [f"class {row % 3}" for row in range(SIZE)]


def image_rows(splits=None, labels=None):
    labels = labels or image_labels()
    rows = [{"id": f"image {row:03d}", "label": label} for row, label in enumerate(labels)]
    return [row | ({"split": name} if name else {}) for row, name in zip(rows, splits or [None] * SIZE, strict=True)]


def raw_rows():
    """Rows of one direction differ in length, which is lost on unit rows."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 6))
    rows = centres[np.arange(SIZE) % 3] + rng.normal(size=(SIZE, 6))
    return (rows * rng.uniform(1, 9, size=(SIZE, 1))).astype(np.float32)


@pytest.fixture
def make(tmp_path):
    def make(splits=None, labels=None):
        return open_set(write_set(tmp_path / "set", META, raw_rows(), image_rows=image_rows(splits, labels)))

    return make


def test_a_set_that_names_no_split_is_divided_80_to_20(make):
    parts, plain = split_of_set(make(), seed=2), split(image_labels(), seed=2)
    assert all(np.array_equal(getattr(parts, part), getattr(plain, part)) for part in PARTS)
    assert parts.rule == "80/20 of each class, seed 2"


def test_a_set_of_one_split_is_divided_too(make):
    assert np.array_equal(split_of_set(make(["test"] * SIZE)).test, split(image_labels()).test)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_the_data_set_s_own_parts_are_taken(make, name):
    splits = (["train"] * 60 + [name] * 20 + ["test"] * 40)[::-1]
    parts = split_of_set(make(splits))
    assert parts.describe() == {"rule": "the data set's own", "train": 60, "validation": 20, "test": 40}
    assert parts.test.tolist() == list(range(40)) and parts.validation.tolist() == list(range(40, 60))


def test_a_validation_part_is_drawn_where_the_data_set_has_none(make):
    embedding_set = make(["train", "train", "test"] * 40, [f"class {row // 3 % 2}" for row in range(SIZE)])
    parts = split_of_set(embedding_set, seed=1)
    assert parts.test.tolist() == list(range(2, SIZE, 3))
    assert (len(parts.train), len(parts.validation)) == (64, 16)
    assert set(parts.train) | set(parts.validation) | set(parts.test) == set(range(SIZE))
    assert parts.rule == "the data set's own, validation drawn, seed 1"


def test_linear_probe_and_few_shot_take_raw_rows_and_knn_unit_ones(make):
    embedding_set = make()
    parts, raw, labels = split_of_set(embedding_set, seed=4), raw_rows(), np.asarray(image_labels())
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)

    def of(rows, chosen):
        return rows[chosen], labels[chosen].tolist()

    found = linear_probe_of_set(embedding_set, seed=4)
    expected = linear_probe(*of(raw, parts.train), *of(raw, parts.validation), *of(raw, parts.test))
    assert found.pop("split") == parts.describe() and found["rms"] == pytest.approx(expected["rms"])
    assert found | {"rms": expected["rms"]} == expected

    learnt = parts.train_and_validation
    found = few_shot_of_set(embedding_set, seed=4)
    assert found == few_shot(*of(raw, learnt), *of(raw, parts.test), seed=4) | {"split": parts.describe()}
    assert found["shots"] != few_shot(*of(unit, learnt), *of(unit, parts.test), seed=4)["shots"]

    found = knn_of_set(embedding_set, seed=4)
    assert found == knn(*of(unit, learnt), *of(unit, parts.test)) | {"split": parts.describe()}


def test_a_split_that_was_written_is_used(make, tmp_path):
    embedding_set = make()
    ids = list(embedding_set.row_of_id)
    write_split(tmp_path / "split.json", split(image_labels(), fraction=0.5, seed=9), ids)
    parts = read_split(tmp_path / "split.json", ids)
    for probe in (linear_probe_of_set, knn_of_set, few_shot_of_set):
        assert probe(embedding_set, parts=parts)["split"] == {
            "rule": "50/50 of each class, seed 9",
            "train": 48,
            "validation": 12,
            "test": 60,
        }


@pytest.mark.parametrize(
    "splits, labels, message",
    [
        (["train"] * 119 + [None], None, "images.jsonl, line 120: no split, other images name one"),
        (
            ["train"] * 119 + ["held"],
            None,
            "images.jsonl, line 120: the split is 'held', known: train, validation, test",
        ),
        (["train"] * 119 + ["val"], None, "no image is of the split 'test'"),
        (["test"] * 119 + ["val"], None, "no image is of the split 'train'"),
        (None, ["a"] * 119 + ["bridge"], "class 'bridge' has one image"),
        (None, [None] * SIZE, "its images have no labels"),
    ],
)
def test_sets_that_cannot_be_probed(make, splits, labels, message):
    embedding_set = make(splits, labels)
    with pytest.raises(InputError, match=message) as caught:
        split_of_set(embedding_set)
    assert str(caught.value).count(str(embedding_set.path)) == 1


def test_an_error_of_a_probe_names_the_set(make):
    embedding_set = make(labels=[f"class {row // 2}" for row in range(SIZE)])
    with pytest.raises(InputError, match="set: validation has no images"):
        linear_probe_of_set(embedding_set)
