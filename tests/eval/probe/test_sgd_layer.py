"""ITRA's linear layer: equal to its training loop in torch, and its split."""

from __future__ import annotations

import numpy as np
import pytest

from eval.embeddings import open_set, write_set
from eval.errors import InputError
from eval.probe import sgd_layer as module
from eval.probe.labelled import accuracy
from eval.probe.probe_set import itra_knn_of_set, itra_linear_of_set
from eval.probe.sgd_layer import sgd_layer


def data(seed=0, train=90, test=40, classes=4, dim=6):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, dim))
    parts = []
    for count in (train, test):
        numbers = np.sort(rng.integers(0, classes, count))
        rows = (centres[numbers] + 0.9 * rng.normal(size=(count, dim))).astype(np.float32)
        parts += [rows, [f"class {number}" for number in numbers]]
    return parts


def in_torch(train, train_labels, test, test_labels, epochs, batch):
    """ITRA's loop, logistic_regression_pytorch, from the first weights that numpy draws."""
    torch = pytest.importorskip("torch")
    names = sorted(set(train_labels))
    true, tested = (torch.tensor([names.index(n) for n in labels]) for labels in (train_labels, test_labels))
    layer = torch.nn.Linear(train.shape[1], len(names))
    drawn = np.random.default_rng(0).normal(0, 0.01, (train.shape[1], len(names)))
    layer.weight.data = torch.tensor(drawn.T.astype(np.float32))
    layer.bias.data.zero_()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.8, momentum=0.9, weight_decay=4e-5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs, eta_min=0)
    accuracies = []
    for _ in range(epochs):
        for start in range(0, len(train), batch):
            loss = torch.nn.functional.cross_entropy(
                layer(torch.tensor(train[start : start + batch])), true[start : start + batch]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            accuracies.append(accuracy(tested.numpy(), layer(torch.tensor(test)).argmax(1).numpy()))
        schedule.step()
    return accuracies


@pytest.mark.parametrize("batch", [10_000, 25])
def test_it_is_itras_loop(monkeypatch, batch):
    monkeypatch.setattr(module, "BATCH", batch)
    parts = data()
    accuracies = in_torch(*parts, epochs=60, batch=batch)
    found = sgd_layer(*parts, epochs=60)
    assert found["accuracy"] == max(accuracies) > accuracies[-1]
    assert found["epoch"] == 1 + int(np.argmax(accuracies))
    assert found["accuracy_last"] == accuracies[-1]
    assert np.trace(found["confusion"]) * 100 / 40 == found["accuracy"]
    assert found["counts"] == {"train": 90, "test": 40} and "best epoch" in found["estimator"]


def test_the_last_fifth_of_the_files_of_each_class_is_tested(tmp_path):
    rng = np.random.default_rng(1)
    rows = [{"id": f"{label}/{number:02}.jpg", "label": label} for label in "ab" for number in range(21)]
    order = rng.permutation(len(rows))
    images = np.array([[1.0, 0.1] if row["label"] == "a" else [0.1, 1.0] for row in rows])
    images[[19, 20]] = [0.1, 1.0]  # two of a's last five files look like b
    meta = {"model": "m", "dataset": "d", "features": "encoder"}
    made = open_set(write_set(tmp_path / "s", meta, 3 * images[order], None, [rows[row] for row in order]))
    for result in (itra_linear_of_set(made), itra_knn_of_set(made)):
        assert result["split"] == {"rule": "80/20 of each class, by the order of ids"} | {
            "train": 32,
            "validation": 0,
            "test": 10,
        }
        assert result["accuracy"] == pytest.approx(80)


def test_a_class_that_is_tested_alone_is_refused():
    with pytest.raises(InputError, match="class 'b' has test images and none in train"):
        sgd_layer(np.eye(2), ["a", "c"], np.eye(2), ["a", "b"])
