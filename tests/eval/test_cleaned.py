"""Cleaned sets: scores without the images near training images, and files of leaks."""

import json

import numpy as np
import pytest

from eval.cleaned import DRAWS, cleaned_retrieval, random_parts
from eval.embeddings import open_set, write_set
from eval.errors import InputError
from eval.leaks import Leaks, NearPair, TrainingSource, leaks_of, read_leaks, write_leaks
from eval.retrieval import chance, retrieval_metrics
from eval.zeroshot import zeroshot_of_set

NEAR = np.isin(np.arange(12), [1, 2, 7])


def unit(rng, *shape):
    rows = rng.normal(size=shape)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def pairs(images=12, seed=0):
    """Images, texts near theirs, 0 to 3 an image, and the image of each text."""
    rng = np.random.default_rng(seed)
    image_of_text = np.repeat(np.arange(images), rng.integers(0, 4, images))
    found = unit(rng, images, 6)
    texts = found[image_of_text] + 0.5 * unit(rng, len(image_of_text), 6)
    return found, texts / np.linalg.norm(texts, axis=1, keepdims=True), image_of_text


def by_hand(images, texts, image_of_text, rows):
    """Retrieval among some images alone: the rest and their texts were never there."""
    rows = list(rows)
    own = [text for text in range(len(texts)) if image_of_text[text] in rows]
    return retrieval_metrics(images[rows], texts[own], np.array([rows.index(image_of_text[text]) for text in own]))


def test_cleaned_recalls_are_those_of_a_set_that_never_had_the_images():
    images, texts, image_of_text = pairs()
    cleaned = cleaned_retrieval(images, texts, image_of_text, NEAR, seed=3)
    kept = np.flatnonzero(~NEAR)
    expected = by_hand(images, texts, image_of_text, kept)
    assert expected.items() <= cleaned.items() and cleaned["left_out"] == 3 and cleaned["images"] == 9
    own = np.isin(image_of_text, kept)
    assert cleaned["chance"] == chance(9, np.searchsorted(kept, image_of_text[own]))
    drawn = [by_hand(images, texts, image_of_text, rows) for rows in random_parts(12, 9, 3)]
    random = cleaned["random"]
    assert random["draws"] == DRAWS == len({tuple(rows) for rows in random_parts(12, 9, 3)})
    assert random["text_to_image"]["R@5"] == pytest.approx(np.mean([each["text_to_image"]["R@5"] for each in drawn]))
    means = [each["mean_recall"] for each in drawn]
    assert (random["mean_recall"], random["mean_recall_std"]) == pytest.approx((np.mean(means), np.std(means, ddof=1)))
    assert cleaned_retrieval(images, texts, image_of_text, NEAR, seed=3) == cleaned
    assert cleaned_retrieval(images, texts, image_of_text, NEAR, seed=4)["random"] != random


def test_nothing_near_and_nothing_left_have_no_scores():
    images, texts, image_of_text = pairs()
    assert cleaned_retrieval(images, texts, image_of_text, ~NEAR & NEAR) == {"left_out": 0}
    without_texts = np.isin(np.arange(12), image_of_text)
    assert cleaned_retrieval(images, texts, image_of_text, without_texts) == {"left_out": int(without_texts.sum())}


def test_cleaned_accuracies_are_of_the_images_left_among_all_classes(tmp_path):
    rng = np.random.default_rng(1)
    centres = unit(rng, 4, 6)
    labels = np.repeat(np.arange(4), 3)
    images = centres[labels] + 0.6 * unit(rng, 12, 6)
    rows = [{"id": str(number), "label": "abcd"[label]} for number, label in enumerate(labels)]
    texts = [{"text": f"{t} {c}", "kind": "class", "label": c, "template": t} for t in ("x", "y") for c in "abcd"]
    vectors = np.concatenate([centres + 0.4 * unit(rng, 4, 6) for _ in "xy"])
    meta = {"model": "m", "dataset": "d", "features": "projected"}
    found = open_set(write_set(tmp_path / "set", meta, images, vectors, rows, texts))
    near = np.isin(np.arange(12), [0, 1, 2, 5])  # class a has no image left
    result = zeroshot_of_set(found, near=near, seed=5)
    assert zeroshot_of_set(found) == {name: value for name, value in result.items() if name != "cleaned"}

    def right(classifier):
        return (found.images @ classifier.T).argmax(axis=1) == labels

    means = found.texts.reshape(2, 4, 6).mean(axis=0)
    all_right = right(means / np.linalg.norm(means, axis=1, keepdims=True))
    cleaned = result["cleaned"]
    assert (cleaned["left_out"], cleaned["images"]) == (4, 8)
    assert cleaned["accuracy"] == pytest.approx(100 * all_right[~near].mean())
    recalls = [100 * all_right[~near & (labels == label)].mean() for label in (1, 2, 3)]
    assert cleaned["mean_per_class_recall"] == pytest.approx(np.mean(recalls))
    alone = [100 * right(found.texts[rows])[~near].mean() for rows in (slice(0, 4), slice(4, 8))]
    assert cleaned["per_template"] == pytest.approx(dict(zip("xy", alone, strict=True)))
    drawn = [100 * all_right[part].mean() for part in random_parts(12, 8, 5)]
    random = cleaned["random"]
    assert (random["accuracy"], random["accuracy_std"]) == pytest.approx((np.mean(drawn), np.std(drawn, ddof=1)))
    assert zeroshot_of_set(found, near=near & ~near)["cleaned"] == {"left_out": 0}


def leaks(dataset="harbours", split=None, images="abc", near="b"):
    found = [NearPair(name, f"train/{name}", "corpus", 2) for name in near]
    return Leaks(dataset, split, f"{dataset}.json", 8, [TrainingSource("corpus", 40)], list(images), found)


def test_a_file_of_leaks_comes_back_and_a_folder_has_all(tmp_path):
    write_leaks(tmp_path / "a.json", leaks())
    write_leaks(tmp_path / "b.json", leaks("bays", "test", near=""))
    assert read_leaks(tmp_path / "a.json") == {tmp_path / "a.json": leaks()}
    assert list(read_leaks(tmp_path).values()) == [leaks(), leaks("bays", "test", near="")]
    assert json.loads((tmp_path / "a.json").read_text())["near"][0]["train"] == "train/b"


def without_seal(text, **changed):
    return json.dumps({name: value for name, value in {**json.loads(text), **changed}.items() if name != "crc32"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:90], "a.json: not JSON"),
        (lambda text: text.replace('"b"', '"c"'), "a.json: damaged, its checksum (crc32) is that of another text"),
        (lambda text: '{"near": []}', "a.json: object missing required field 'dataset'"),
        (lambda text: without_seal(text, distance=65), "a.json: distance: "),
        (lambda text: without_seal(text, images=[]), "a.json: no image in `images`"),
        (lambda text: without_seal(text, images=["a"]), "a.json: `near` has 'b', which is not among `images`"),
        (lambda text: without_seal(text, near=2 * json.loads(text)["near"]), "a.json: `near` has 'b' twice"),
    ],
    ids=["torn", "damaged", "no field", "out of range", "no images", "unknown image", "twice"],
)
def test_a_bad_file_of_leaks_is_one_line(tmp_path, change, message):
    file = tmp_path / "a.json"
    write_leaks(file, leaks())
    file.write_text(change(file.read_text()))
    with pytest.raises(InputError) as error:
        read_leaks(file)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_folder_without_leaks_is_bad_input(tmp_path):
    with pytest.raises(InputError, match="no leaks file in it; `lrsclip leaks` makes one"):
        read_leaks(tmp_path)
    with pytest.raises(InputError, match="nowhere.json is missing"):
        read_leaks(tmp_path / "nowhere.json")


def test_leaks_are_of_a_set_whose_images_they_compared():
    every = {"h": leaks(), "b": leaks("bays", images="pq", near="q")}

    def fitting(dataset, ids, split=None, among=every):
        return leaks_of(among, dataset, split, ids, "set")

    assert fitting("harbours", "abc") == fitting("Harbours", "ab") == fitting("another name", "cab") == "h"
    assert fitting("another name", "ab") is None and fitting("bays", "pq") == "b" and fitting("x", "y") is None
    with pytest.raises(InputError, match=r"set: h has not compared image 'd' \(1 of 2 images are missing there\)"):
        fitting("harbours", "ad")
    test = {"t": leaks(split="test")}
    assert fitting("harbours", "xyz", "train", test) is None
    with pytest.raises(InputError, match="3 of 3 images"):
        fitting("harbours", "xyz", "test", test)
    with pytest.raises(InputError, match="set: h and also are both of it: give one of them by --leaks=FILE"):
        fitting("harbours", "abc", None, {**every, "also": leaks("harbours", "test")})
    assert fitting("harbours", "abc", None, {"other": leaks("lakes"), **every}) == "h"  # ids such as 1.jpg are common
