"""Splits: what each part holds, that a seed or a file repeats it, and what a torn file says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from eval.errors import InputError
from eval.probe.splits import PARTS, read_split, split, write_split

# Images of WHU-RS19's 19 classes.
WHU_RS19 = [55, 50, 52, 56, 50, 50, 50, 53, 53, 61, 50, 50, 50, 54, 53, 50, 54, 56, 58]


def labels_of(sizes):
    """Labels of classes of these sizes, in mixed order."""
    labels = np.repeat([f"class {n:02d}" for n in range(len(sizes))], sizes)
    return np.random.default_rng(1).permutation(labels).tolist()


def counts(labels, rows):
    return {name: sum(labels[row] == name for row in rows) for name in sorted(set(labels))}


@pytest.mark.parametrize("seed", [0, None])
def test_every_class_is_shared_out_and_no_row_twice(seed):
    sizes = [2, 3, 5, 6, 10, 27, 100]
    labels = labels_of(sizes)
    parts = split(labels, seed=seed, ids=[str(row) for row in range(len(labels))])
    learnt = [int(0.8 * size) for size in sizes]
    chosen_by = [0, 1, 1, 1, 1, 4, 16]
    assert sorted(np.concatenate([parts.train, parts.validation, parts.test])) == list(range(len(labels)))
    assert list(counts(labels, parts.train_and_validation).values()) == learnt
    assert list(counts(labels, parts.validation).values()) == chosen_by
    assert parts.describe() == {
        "rule": f"80/20 of each class, {'by the order of ids' if seed is None else 'seed 0'}",
        "train": sum(learnt) - sum(chosen_by),
        "validation": sum(chosen_by),
        "test": sum(sizes) - sum(learnt),
    }


def test_as_many_test_images_as_remoteclip_had():
    assert sum(WHU_RS19) == 1005
    assert len(split(labels_of(WHU_RS19)).test) == 206


def test_a_seed_repeats_a_split_and_another_draws_another():
    labels = labels_of([20, 30])
    first, again, other = (split(labels, seed=seed) for seed in (3, 3, 4))
    assert all(np.array_equal(getattr(first, part), getattr(again, part)) for part in PARTS)
    assert not np.array_equal(first.test, other.test)


def test_without_a_seed_the_first_ids_of_a_class_are_for_training():
    labels = labels_of([10, 20])
    ids = [f"{number:03d}" for number in np.random.default_rng(2).permutation(30)]
    parts = split(labels, seed=None, ids=ids)
    for name in sorted(set(labels)):
        by_id = sorted((ids[row], row) for row in range(30) if labels[row] == name)
        first = {row for _, row in by_id[: int(0.8 * len(by_id))]}
        assert first == {row for row in parts.train_and_validation if labels[row] == name}


def test_a_share_that_would_leave_a_part_empty():
    labels = labels_of([2, 40])
    assert list(counts(labels, split(labels, fraction=0.1).train_and_validation).values()) == [1, 4]
    assert list(counts(labels, split(labels, fraction=0.999).test).values()) == [1, 1]


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"labels": ["a", "a", "bridge"]}, "class 'bridge' has one image"),
        ({"labels": ["a", "a"], "fraction": 1.0}, "fraction is 1.0"),
        ({"labels": ["a", "a"], "seed": None}, "give one id a label"),
    ],
)
def test_bad_input(wrong, message):
    with pytest.raises(InputError, match=message):
        split(**wrong)


def test_a_file_repeats_a_split_for_rows_in_another_order(tmp_path):
    labels = labels_of([10, 20])
    ids = [f"image {row}" for row in range(30)]
    written = split(labels, seed=7)
    write_split(tmp_path / "split.json", written, ids)
    order = np.random.default_rng(3).permutation(30)
    read = read_split(tmp_path / "split.json", [ids[row] for row in order])
    for part in PARTS:
        assert {ids[row] for row in getattr(written, part)} == {ids[order[row]] for row in getattr(read, part)}
    assert (read.rule, read.fraction, read.seed) == (written.rule, 0.8, 7)
    assert [path.name for path in tmp_path.iterdir()] == ["split.json"]
    with pytest.raises(InputError, match="is there already"):
        write_split(tmp_path / "split.json", written, ids)


GOOD = {"train": ["a", "b"], "validation": [], "test": ["c"]}


@pytest.mark.parametrize(
    "written, message",
    [
        ("{", "not JSON"),
        ([], "expected an object, got a list"),
        ({"train": ["a"], "test": ["b"]}, "missing required field 'validation'"),
        (GOOD | {"test": ["z"]}, "test names 'z', which is not among the 3 images"),
        (GOOD | {"test": [["c"]]}, r"test\[0\]: expected text, got a list"),
        (GOOD | {"test": ["c", "a"]}, "'a' is in train and again in test"),
        (GOOD | {"train": ["a"]}, "image 'b' is in no part"),
        (GOOD | {"train": ["a", "b", "c"], "test": []}, "train and test need an image each"),
    ],
)
def test_a_bad_file_says_what_is_wrong(tmp_path, written, message):
    path = tmp_path / "split.json"
    path.write_text(written if isinstance(written, str) else json.dumps(written))
    with pytest.raises(InputError, match=message) as caught:
        read_split(path, ["a", "b", "c"])
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_and_images_with_one_id(tmp_path):
    with pytest.raises(InputError, match="none.json is missing"):
        read_split(tmp_path / "none.json", ["a"])
    with pytest.raises(InputError, match="two images have the id 'a'"):
        write_split(tmp_path / "split.json", split(["x"] * 3), ["a", "b", "a"])
