"""Linear probe against scikit-learn, called directly on rows of another length."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from eval.errors import InputError
from eval.probe import linear, logistic
from eval.probe.linear import linear_probe

CS = (0.001, 0.1, 10.0)


def labelled(count, seed, classes=4, dim=8, length=30.0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(classes, dim))
    numbers = np.minimum(rng.integers(classes + 2, size=count), classes - 1)  # the last class is the largest
    rows = centres[numbers] + 1.2 * rng.normal(size=(count, dim))
    return (length * rows).astype(np.float32), [f"class {number}" for number in numbers]


@pytest.fixture(scope="module")
def parts():
    return labelled(120, 1), labelled(60, 2), labelled(80, 3)


@pytest.fixture(scope="module")
def result(parts):
    return linear_probe(*parts[0], *parts[1], *parts[2], Cs=CS)


def test_equal_to_scikit_learn(parts, result):
    """C / rms² on the rows as they are is the same model; and another solver ends in it too."""
    (train, labels), (validation, chosen_by), (test, truth) = parts
    rms = np.sqrt(np.mean(train.astype(np.float64) ** 2))

    def direct(C, rows, labels):
        model = LogisticRegression(C=C / rms**2, solver="newton-cholesky", tol=1e-8)
        return model.fit(rows.astype(np.float64), labels)

    curve = {f"{C:g}": 100 * direct(C, train, labels).score(validation, chosen_by) for C in CS}
    assert result["validation"] == pytest.approx(curve)
    assert len(set(curve.values())) == 3 and curve[f"{result['C']:g}"] == max(curve.values())
    model = direct(result["C"], np.concatenate([train, validation]), labels + chosen_by)
    predicted = model.predict(test)
    assert result["rms"] == pytest.approx(rms)
    assert result["accuracy"] == pytest.approx(100 * np.mean(predicted == truth))
    assert result["mean_per_class_recall"] == pytest.approx(100 * balanced_accuracy_score(truth, predicted))
    assert result["confusion"] == confusion_matrix(truth, predicted).tolist()
    assert result["classes"] == model.classes_.tolist()
    assert result["counts"] == {"train": 120, "validation": 60, "test": 80}
    assert result["accuracy"] != pytest.approx(result["mean_per_class_recall"])


def test_test_images_choose_nothing(parts, result):
    (_, _), (_, _), (test, truth) = parts
    blind = linear_probe(*parts[0], *parts[1], test, truth[::-1], Cs=CS)
    assert blind["accuracy"] != result["accuracy"]
    assert [blind[key] for key in ("C", "rms", "validation")] == [result[key] for key in ("C", "rms", "validation")]


def test_the_smallest_of_equally_good_is_taken_and_an_end_of_the_grid_is_told():
    train, test = ((np.eye(2)[[0, 1] * 5], list("ab") * 5) for _ in range(2))
    result = linear_probe(*train, *test, *test, Cs=(10.0, 1.0, 0.1))
    assert result["validation"] == {"0.1": 100.0, "1": 100.0, "10": 100.0}
    assert result["C"] == 0.1 and result["note"] == "the best C, 0.1, is the smallest that was tried"
    assert "note" not in linear_probe(*train, *test, *test, Cs=(1.0,))


def test_fits_that_do_not_converge_are_told(parts, monkeypatch, recwarn):
    for module in (linear, logistic):
        monkeypatch.setattr(module, "MAX_ITERATIONS", 3)
    note = linear_probe(*parts[0], *parts[1], *parts[2], Cs=(0.1, 1.0))["note"]
    assert "no convergence in 3 iterations with C = 0.1, 1; the final fit did not converge in 3 iterations" in note
    assert not [warning for warning in recwarn if "lbfgs" in str(warning.message)]


def test_a_class_without_test_images_has_no_recall(parts):
    test, truth = parts[2]
    kept = [row for row, name in enumerate(truth) if name != "class 1"]
    result = linear_probe(*parts[0], *parts[1], test[kept], [truth[row] for row in kept], Cs=(1.0,))
    recalls = [row[true] / sum(row) for true, row in enumerate(result["confusion"]) if true != 1]
    assert sum(result["confusion"][1]) == 0
    assert result["mean_per_class_recall"] == pytest.approx(100 * np.mean(recalls))


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"Cs": ()}, "Cs must be one or more positive numbers"),
        ({"Cs": (0.0, 1.0)}, "Cs must be one or more positive numbers"),
        ({"train": np.zeros((4, 2))}, "all values of train are zero"),
        ({"validation": np.empty((0, 2)), "validation_labels": []}, "validation has no images"),
        ({"validation_labels": list("abc")}, "class 'c' has validation images and none in train"),
        ({"test": np.full((3, 2), np.inf)}, "row 0 of test has NaN or infinite values"),
    ],
)
def test_bad_input(wrong, message):
    good = {"train": np.eye(2)[[0, 1, 0, 1]], "train_labels": list("abab")}
    good |= {"validation": np.eye(2)[[0, 1, 0]], "validation_labels": list("aba")}
    good |= {"test": np.eye(2)[[0, 1, 0]], "test_labels": list("aba")}
    with pytest.raises(InputError, match=message):
        linear_probe(**good | wrong)
