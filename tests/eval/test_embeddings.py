import json

import numpy as np
import pytest

from eval.embeddings import find_sets, open_set, write_set
from eval.errors import InputError

META = {"model": "m", "dataset": "d", "split": None, "features": "projected"}
IMAGES = [{"id": "a", "label": "x"}, {"id": "b", "label": "y"}, {"id": "c", "label": "x"}]
TEXTS = [
    {"text": "one", "kind": "short", "image": "c"},
    {"text": "one", "kind": "short", "image": "c", "tokens": 5},
    {"text": "two", "kind": "long", "image": "a"},
    {"text": "three", "kind": "short", "image": "b"},
]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    return write_set(tmp_path / "set", META, rng.normal(size=(3, 8)), rng.normal(size=(4, 8)), IMAGES, TEXTS)


def test_a_set_comes_back_as_it_was_written(folder):
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(3, 8)).astype(np.float32)
    found = open_set(folder)
    assert isinstance(found.images, np.memmap)
    np.testing.assert_allclose(found.images * found.image_norms[:, None], raw, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found.texts, axis=1), 1, rtol=1e-6)
    assert (found.model, found.dataset, found.split, found.features) == ("m", "d", None, "projected")
    assert found.meta["dim"] == 8 and list(found.image_rows) == IMAGES and list(found.text_rows) == TEXTS


def test_texts_are_chosen_by_kind_and_cut_and_point_to_their_images(folder):
    found = open_set(folder)
    assert found.text_rows_of("short").tolist() == [0, 3]
    assert found.text_rows_of("short", tokens=5).tolist() == [1]
    assert found.text_rows_of("class").tolist() == []
    assert found.image_of_text([0, 2, 3]).tolist() == [2, 0, 1]
    assert found.labels() == ["x", "y", "x"]


def test_a_side_may_be_missing(tmp_path):
    found = open_set(write_set(tmp_path / "s", META, images=np.eye(3), image_rows=[{"id": name} for name in "abc"]))
    assert found.texts.shape == (0, 3) and not found.text_rows and found.labels() is None


def test_sets_are_found_at_any_depth(folder, tmp_path):
    write_set(tmp_path / "deep" / "er", META, np.eye(2), image_rows=[{"id": "a"}, {"id": "b"}])
    (tmp_path / "linked").symlink_to(folder)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "meta.json").write_text("{}")  # of something else
    assert find_sets(tmp_path) == [tmp_path / "deep" / "er", tmp_path / "linked", folder]
    with pytest.raises(InputError, match="no embedding set there"):
        find_sets(tmp_path / "run")


def test_a_finished_set_is_never_overwritten(folder):
    with pytest.raises(InputError, match="holds an embedding set already"):
        write_set(folder, META, np.eye(2))


def test_a_row_without_a_direction_is_refused(tmp_path):
    with pytest.raises(InputError, match="row 1 of images is zero or not finite"):
        write_set(tmp_path / "s", META, np.array([[1.0, 0], [np.nan, 1]]), image_rows=[{"id": "a"}, {"id": "b"}])


def cut(path, data=None):
    path.write_bytes(path.read_bytes()[:-5] if data is None else data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: (s / "meta.json").unlink(), "no finished embedding set"),
        (lambda s: cut(s / "meta.json"), "meta.json: not JSON"),
        (lambda s: cut(s / "meta.json", json.dumps(META | {"features": "raw"}).encode()), "features is 'raw'"),
        (
            lambda s: cut(s / "meta.json", json.dumps(META | {"dim": 9}).encode()),
            "says dim 9, images.npy has",
        ),
        (lambda s: cut(s / "images.npy"), "images.npy: 92? bytes|images.npy: .* torn or damaged"),
        (lambda s: np.save(s / "images.npy", np.array([{}], object)), "images.npy: no .npy array"),
        (lambda s: np.save(s / "images.npy", np.eye(3)), "float64 of shape"),
        (lambda s: np.save(s / "texts.npy", np.eye(4, dtype=np.float32)), "8 dimensions and texts 4"),
        (lambda s: np.save(s / "text_norms.npy", np.ones(3, np.float32)), "texts.npy has 4 rows, text_norms.npy has 3"),
        (lambda s: (s / "image_norms.npy").unlink(), "image_norms.npy is missing"),
        (lambda s: cut(s / "images.jsonl"), "images.jsonl, line 3: not JSON"),
        (
            lambda s: cut(s / "images.jsonl", b'{"label": "x"}\n' * 3),
            "line 1: object missing required field 'id'",
        ),
        (lambda s: cut(s / "texts.jsonl", b'{"text": "x", "kind": "caption"}\n' * 4), "kind is 'caption'"),
        (lambda s: cut(s / "texts.jsonl", b"[]\n" * 4), "texts.jsonl, line 1: expected an object, got a list"),
    ],
)
def test_what_is_damaged_is_named(folder, damage, message):
    damage(folder)
    with pytest.raises(InputError, match=message):
        open_set(folder)


def test_texts_without_images_images_of_one_id_and_missing_labels_are_named(tmp_path):
    def made(name, images, texts):
        return open_set(write_set(tmp_path / name, META, np.eye(2), np.eye(2), images, texts))

    short = {"text": "t", "kind": "short"}
    found = made("a", [{"id": "a"}, {"id": "b", "label": "x"}], [short | {"image": "z"}, short])
    with pytest.raises(InputError, match="line 1: the text is of image 'z', which the set lacks"):
        found.image_of_text([0])
    with pytest.raises(InputError, match="line 2: the text names no image"):
        found.image_of_text([1])
    with pytest.raises(InputError, match="line 1: no label, other images have one"):
        found.labels()
    with pytest.raises(InputError, match=r"images\.jsonl: lines 1 and 2 have one id, 'a'"):
        made("b", [{"id": "a"}] * 2, [short] * 2)
