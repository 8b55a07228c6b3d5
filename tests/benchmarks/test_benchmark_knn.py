"""The ways of the k-NN benchmark: that they are the same task, not how fast they are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    return importlib.import_module("benchmarks.knn_speed")


def test_the_ways_predict_the_same(benchmark, tmp_path):
    benchmark.write_rows(tmp_path, train=300, test=150, width=32, classes=5)
    train, classes, test = (np.load(tmp_path / f"{name}.npy") for name in ("train", "train_classes", "test"))
    expected = benchmark.by_numpy(train, classes, test)
    assert len(set(expected)) == 5
    ways = ("faiss", "scikit-learn") if importlib.util.find_spec("faiss") else ("scikit-learn",)
    for way in ways:
        np.testing.assert_array_equal(benchmark.WAYS[way](train, classes, test), expected)


@pytest.mark.parametrize("bad", [["--train", "20"], ["--test", "0"]])
def test_sizes_that_cannot_be(benchmark, bad):
    with pytest.raises(benchmark.InputError, match="--train must be more than 20"):
        benchmark.main(bad)
