"""Zero-shot classification: against scikit-learn and plain loops, ties, and the published scores of real embeddings."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, recall_score

from eval import zeroshot
from eval.embeddings import open_set, write_set
from eval.errors import InputError
from eval.zeroshot import class_vectors, zeroshot_metrics, zeroshot_of_set

CLASSES = ["airport", "beach", "river", "sea ice"]
TEMPLATES = ["a photo of {}", "an aerial view of the {}.", "{}"]


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def loops(images, raw_texts, class_of_text, classes, normalised):
    """The place of each image's class, one inner product and one comparison after the other."""
    vectors = []
    for name in classes:
        rows = [row / np.sqrt(row @ row) if normalised else row for row in raw_texts[class_of_text == name]]
        mean = sum(rows) / len(rows)
        vectors.append((mean / np.sqrt(mean @ mean)).astype(np.float32).astype(np.float64))
    predicted = []
    for image in images.astype(np.float64):
        best = 0
        for place, vector in enumerate(vectors):
            if round(float(image @ vector), 7) > round(float(image @ vectors[best]), 7):
                best = place
        predicted.append(best)
    return np.array(predicted)


@pytest.fixture
def scenes():
    """Images, raw text rows of unequal lengths, what each text is of, and the images' labels."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(len(CLASSES), 16))
    labels = np.array(CLASSES)[np.r_[np.arange(4), rng.integers(4, size=196)]]
    of_image = np.array([CLASSES.index(label) for label in labels])
    images = unit(centres[of_image] + 1.5 * rng.normal(size=(200, 16)))
    class_of_text = np.array(CLASSES * len(TEMPLATES))
    texts = np.tile(centres, (len(TEMPLATES), 1)) + 2 * rng.normal(size=(12, 16))
    return images, texts * rng.uniform(0.2, 5, size=(12, 1)), class_of_text, labels


@pytest.fixture
def make_set(scenes, tmp_path):
    """Writes a set of the scenes, with what a test changes in it, and opens it."""
    images, texts, class_of_text, labels = scenes

    def make(name="set", features="projected", change_images=lambda row: row, change_texts=lambda row: row, keep=12):
        image_rows = [{"id": str(row), "label": str(label)} for row, label in enumerate(labels)]
        text_rows = [
            {"text": template.format(label), "kind": "class", "label": label, "template": template}
            for template in TEMPLATES
            for label in CLASSES
        ]
        meta = {"model": "m", "dataset": "d", "features": features}
        rows = [change_images(row) for row in image_rows], [change_texts(row) for row in text_rows[:keep]]
        return open_set(write_set(tmp_path / name, meta, images, texts[:keep] if keep else None, *rows))

    return make


@pytest.mark.parametrize("average", zeroshot.AVERAGES)
def test_metrics_are_those_of_scikit_learn_and_plain_loops(scenes, average):
    images, raw, class_of_text, labels = scenes
    vectors = class_vectors(unit(raw), np.linalg.norm(raw, axis=1), class_of_text, CLASSES, average)
    result = zeroshot_metrics(images, vectors, labels, CLASSES)
    predicted = np.array(CLASSES)[loops(images, raw, class_of_text, CLASSES, average == "normalised")]
    assert 30 < result["accuracy"] < 95
    assert result["accuracy"] == pytest.approx(100 * np.mean(predicted == labels), abs=1e-12)
    assert result["confusion"] == confusion_matrix(labels, predicted, labels=CLASSES).tolist()
    recalls = 100 * recall_score(labels, predicted, labels=CLASSES, average=None)
    assert list(result["per_class"]) == result["classes"] == CLASSES
    np.testing.assert_allclose(list(result["per_class"].values()), recalls, rtol=0, atol=1e-12)
    assert result["mean_per_class_recall"] == pytest.approx(recalls.mean(), abs=1e-12)
    assert result["images"] == 200


def test_the_two_averages_by_hand():
    rows, norms = np.eye(3, dtype=np.float32), np.array([1, 3, 2], np.float32)
    normalised = class_vectors(rows, norms, ["a", "a", "b"], ["b", "a"])
    raw = class_vectors(rows, norms, ["a", "a", "b"], ["b", "a"], "raw")
    np.testing.assert_allclose(normalised, [[0, 0, 1], [0.5**0.5, 0.5**0.5, 0]], atol=1e-7)
    np.testing.assert_allclose(raw, [[0, 0, 1], [0.1**0.5, 0.9**0.5, 0]], atol=1e-7)
    assert normalised.dtype == raw.dtype == np.float32
    np.testing.assert_array_equal(normalised, class_vectors(rows, None, ["a", "a", "b"], ["b", "a"]))


def test_the_first_of_equal_classes_wins():
    halfway = unit(np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 1, 1, 1]]))
    found = zeroshot_metrics(halfway, np.eye(4, dtype=np.float32), CLASSES, CLASSES)
    assert np.argmax(found["confusion"], axis=1).tolist() == [0, 1, 2, 0]


def test_the_order_of_summation_makes_no_winner():
    """The vectors of all classes have the same entries in another order, and the image weighs all entries alike."""
    rng = np.random.default_rng(1)
    vectors = rng.permuted(np.tile(unit(1 + rng.normal(size=50)), (20, 1)), axis=1)
    image = unit(np.ones((1, 50)))
    assert (image.astype(np.float64) * vectors).cumsum(axis=1)[:, -1].argmax() > 0
    classes = list(range(20))
    found = zeroshot_metrics(np.repeat(image, 20, axis=0), vectors, classes, classes)
    assert np.array(found["confusion"])[:, 0].tolist() == [1] * 20


def test_blocks_change_nothing(scenes, monkeypatch):
    images, raw, class_of_text, labels = scenes
    vectors = class_vectors(unit(raw), None, class_of_text, CLASSES)
    whole = zeroshot_metrics(images, vectors, labels, CLASSES)
    for name, size in (("BLOCK", 7), ("SCORES", 1)):
        monkeypatch.setattr(zeroshot, name, size)
        assert zeroshot_metrics(images, vectors, labels, CLASSES) == whole


@pytest.mark.parametrize("average", zeroshot.AVERAGES)
def test_a_set_gives_the_ensemble_and_every_template_alone(make_set, scenes, average):
    images, raw, class_of_text, labels = scenes
    result = zeroshot_of_set(make_set(), average)
    predicted = np.array(CLASSES)[loops(images, raw, class_of_text, CLASSES, average == "normalised")]
    assert result["accuracy"] == pytest.approx(100 * np.mean(predicted == labels), abs=1e-12)
    assert (result["templates"], result["average"], result["classes"]) == (TEMPLATES, average, CLASSES)
    for place, template in enumerate(TEMPLATES):
        own = slice(4 * place, 4 * place + 4)
        alone = np.array(CLASSES)[loops(images, raw[own], class_of_text[own], CLASSES, True)]
        assert result["per_template"][template] == pytest.approx(100 * np.mean(alone == labels), abs=1e-12)
    assert len(set(result["per_template"].values())) == len(TEMPLATES)


def test_chosen_templates_are_as_good_as_a_set_of_them(make_set):
    few = zeroshot_of_set(make_set("few", keep=8))
    assert zeroshot_of_set(make_set("all"), templates=TEMPLATES[:2]) == few
    one = zeroshot_of_set(make_set("one", keep=4))
    assert one["accuracy"] == few["per_template"][TEMPLATES[0]]
    assert one["templates"] == TEMPLATES[:1] and "per_template" not in one


def test_texts_without_a_template_count_too(make_set):
    bare = make_set(change_texts=lambda row: {key: value for key, value in row.items() if key != "template"})
    result = zeroshot_of_set(bare)
    assert result["templates"] == [] and "per_template" not in result
    assert result["accuracy"] == zeroshot_of_set(make_set("named"))["accuracy"]


AXES = np.eye(3, dtype=np.float32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((AXES, np.ones(3), ["a", "b", "c"], ["a", "b"]), "class text 2 is of 'c', which is no class"),
        ((AXES, np.ones(3), ["a", "b", "a"], ["a", "b", "c"]), "class 'c' has no texts"),
        ((AXES, np.ones(3), ["a", "b"], ["a", "b"]), "2 labels for 3 class texts"),
        ((AXES, np.ones(3), ["a", "b", "a"], ["a", "b", "a"]), "class 'a' is listed twice"),
        ((AXES[0], np.ones(3), ["a"] * 3, ["a"]), "texts must be a matrix"),
        ((AXES * 2, np.ones(3), ["a"] * 3, ["a"]), "row 0 of class texts has length 2 instead of 1"),
        ((AXES * np.nan, np.ones(3), ["a"] * 3, ["a"]), "row 0 of class texts has NaN"),
        ((np.stack([AXES[0], -AXES[0], AXES[1]]), np.ones(3), ["a", "a", "b"], ["a", "b"]), "class 'a' cancel out"),
        ((AXES, np.ones(2), ["a", "a", "b"], ["a", "b"], "raw"), "norms of shape (2,) for 3 class texts"),
        ((AXES, np.array([1, 0, 1]), ["a", "a", "b"], ["a", "b"], "raw"), "class text 1 has the length 0 before"),
        ((AXES, np.ones(3), ["a"] * 3, ["a"], "normalized"), "'normalized', did you mean 'normalised'?"),
    ],
)
def test_bad_texts_are_one_clear_line(arguments, message):
    with pytest.raises(InputError) as caught:
        class_vectors(*arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((AXES[:, :2], AXES, list("abc"), list("abc")), "images have 2 dimensions and class_vectors 3"),
        ((AXES, AXES[:2], list("aba"), list("abc")), "2 class vectors for 3 classes"),
        ((AXES, AXES, list("aab"), list("abc")), "class 'c' has no images"),
        ((AXES, AXES, list("abd"), list("abc")), "image 2 is of 'd', which is no class"),
        ((AXES, AXES, ["runway", "airprt", "river"], ["airport", "runway", "river"]), "did you mean 'airport'?"),
        ((AXES, AXES, list("ab"), list("abc")), "2 labels for 3 images"),
        ((AXES * np.nan, AXES, list("abc"), list("abc")), "row 0 of images has NaN"),
        ((AXES, AXES * 0.5, list("abc"), list("abc")), "row 0 of class vectors has length 0.5"),
        ((AXES[:0], AXES, [], list("abc")), "images must be a matrix of at least one row"),
    ],
)
def test_bad_images_are_one_clear_line(arguments, message):
    with pytest.raises(InputError) as caught:
        zeroshot_metrics(*arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": "encoder"}, "needs projected features, these are encoder"),
        ({"keep": 0}, "no class texts"),
        ({"keep": 3}, "image 3 is of 'sea ice', which is no class"),
        ({"keep": 11}, "template '{}': class 'sea ice' has no texts"),
        ({"change_images": lambda row: {"id": row["id"]}}, "the images have no labels"),
        ({"change_images": lambda row: row if row["id"] != "7" else {"id": "7"}}, "images.jsonl, line 8: no label"),
        ({"change_images": lambda row: {**row, "label": "beach"}}, "class 'airport' has no images"),
        ({"change_texts": lambda row: {**row, "label": None}}, "texts.jsonl, line 1: a class text without a label"),
    ],
)
def test_bad_sets_are_one_clear_line_that_names_them(make_set, change, message):
    bad = make_set(**change)
    with pytest.raises(InputError) as caught:
        zeroshot_of_set(bad)
    assert message in str(caught.value) and str(caught.value).count(str(bad.path)) == 1


def test_an_unknown_template_is_an_error(make_set):
    with pytest.raises(InputError, match=r"no class text has the template 'a foto of \{\}', did you mean 'a photo of"):
        zeroshot_of_set(make_set(), templates=["a foto of {}"])


def data():
    """The folder of real data, or None."""
    return Path(os.environ["LRSCLIP_JAX_DATA"]) if "LRSCLIP_JAX_DATA" in os.environ else None


@pytest.fixture(scope="module")
def whurs19(tmp_path_factory):
    """Real rows of RemoteCLIP and CLIP on WHU-RS19, what was published about them, and an embedding set of each."""
    if not data():
        pytest.skip("LRSCLIP_JAX_DATA names no folder with whurs19_embeddings.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2])
        program = importlib.import_module("benchmarks.remoteclip_whurs19")
    tensors, facts = program.read(data())
    folder = tmp_path_factory.mktemp("whurs19")
    sets = {name: open_set(program.write(folder / name, name, tensors, facts)) for name in facts["models"]}
    return tensors, facts, sets


@pytest.mark.parametrize("average", zeroshot.AVERAGES)
def test_all_published_accuracies_of_remoteclip_come_out_to_the_image(whurs19, average):
    _, facts, sets = whurs19
    published = facts["models"]["RemoteCLIP/ViT-B-32"]
    result = zeroshot_of_set(sets["RemoteCLIP/ViT-B-32"], average)
    assert result["images"] == 1005 and len(result["templates"]) == 106
    assert list(result["per_template"].values()) == pytest.approx(published["published_acc"], abs=1e-9)
    assert result["accuracy"] == pytest.approx(published["published_avgprompt"], abs=1e-9)


@pytest.mark.parametrize("name", ["RemoteCLIP/ViT-B-32", "CLIP/ViT-B-32"])
def test_rows_as_stored_give_the_accuracies_of_float32_to_the_image(whurs19, name):
    """CLIP's rows are stored in half precision, so their lengths are 1 within 7e-4 only."""
    tensors, facts, sets = whurs19
    known, labels = facts["models"][name], sets[name].labels()

    def accuracy(vectors):
        return zeroshot_metrics(tensors[f"{name}/images"], vectors, labels, facts["file_classes"])["accuracy"]

    found = [accuracy(vectors) for vectors in tensors[f"{name}/texts"]]
    assert found == pytest.approx(known["acc_fp32"], abs=1e-9)
    assert accuracy(tensors[f"{name}/text_average"]) == pytest.approx(known["acc_avgprompt_fp32"], abs=1e-9)
    assert np.abs(np.subtract(found, known["published_acc"])).max() < 4.5 * 100 / 1005
    assert zeroshot_of_set(sets[name])["accuracy"] == pytest.approx(known["acc_own_mean_fp32"], abs=1e-9)
