"""`lrsclip segment`: a scene made by hand, whose right answer is known, and what may be wrong with labels."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import lrsclip_jax
from eval import selo
from eval.errors import InputError
from eval.papers.measured import read_results
from eval.segmentation import OTHER
from lrsclip_jax.data.rasters import open_scene
from lrsclip_jax.localise import segment as segment_module
from lrsclip_jax.localise.label_images import read_classes, read_labels
from lrsclip_jax.localise.segment_command import main


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


CLASSES = [
    {"name": "red roof", "words": ["red", "crimson"], "value": 3},
    {"name": "water", "words": ["blue"], "value": 0},
    {"name": "lawn", "words": ["green"], "value": 7},
]
COLOURS = {"red": (220, 20, 20), "crimson": (220, 20, 20), "blue": (20, 20, 220), "green": (20, 220, 20)}


class Painted:
    """Stands for a model whose patches know their colour, and whose texts name colours."""

    source, weights_hash = "painted", "0"

    def texts(self, texts):
        rows = np.array([COLOURS[text.rsplit(" ", 1)[1]] for text in texts], np.float64) - 100
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def painted_patches(model, size=None):
    def encode(images):
        small = [cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float64) - 100 for image in images]
        rows = np.stack(small)
        return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)

    return encode


@pytest.fixture
def town(tmp_path, monkeypatch):
    """Two images of 64×96 pixels in fields of one colour, their labels, the classes, and a model that sees colours."""
    monkeypatch.setattr(lrsclip_jax, "load", lambda source, batch_size: Painted())
    monkeypatch.setattr(segment_module, "patch_encoder", painted_patches)
    for name, fields in (("a", ["red", "blue"]), ("sub/b", ["green", "red"])):
        labels = np.full((64, 96), 200, np.uint8)
        pixels = np.full((64, 96, 3), 100, np.uint8)
        for place, field in enumerate(fields):
            columns = slice(48 * place, 48 * (place + 1))
            pixels[:, columns] = COLOURS[field]
            labels[:, columns] = next(row["value"] for row in CLASSES if field in row["words"])
        labels[:8] = 200  # none of the classes
        for folder, values in (("images", pixels), ("labels", labels)):
            file = tmp_path / folder / f"{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(file)
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES))
    return tmp_path


def run(town, *more):
    words = [str(town / "images"), f"--labels={town / 'labels'}", f"--classes={town / 'classes.json'}"]
    main([*words, "--checkpoint=painted", f"--out={town / 'out'}", *more])


def test_a_painted_town_is_segmented_and_measured(town, capsys):
    run(town)
    result = json.loads((town / "out" / "segmentation.json").read_text())
    found = np.asarray(Image.open(town / "out" / "predictions" / "sub" / "b.png"))
    assert found.shape == (64, 96) and (found[:, :44] == 2).all() and (found[:, 52:] == 0).all()
    # Counted by hand: where a field is seen as its own colour but for the patches at the edge.
    labels = {name: np.asarray(Image.open(town / "labels" / f"{name}.png")) for name in ("a", "sub/b")}
    seen = {name: np.asarray(Image.open(town / "out" / "predictions" / f"{name}.png")) for name in labels}
    for number, row in enumerate(CLASSES):
        both = sum(((labels[name] == row["value"]) & (seen[name] == number)).sum() for name in labels)
        known = [labels[name] != 200 for name in labels]
        either = sum(
            ((labels[name] == row["value"]) | (seen[name] == number))[of].sum()
            for name, of in zip(labels, known, strict=True)
        )
        assert result["iou"][row["name"]] == pytest.approx(100 * both / either) and both / either > 0.9
    assert (result["images"], result["pixels"], result["dataset"]) == (2, 2 * 56 * 96, "images")
    assert "mIoU" in capsys.readouterr().out and (town / "out" / "report.html").exists()
    assert read_results(town / "out")[0]["mIoU"] == result["mIoU"]


def spied(function, scenes):
    def call(scene, *rest):
        scenes.append(scene)
        return function(scene, *rest)

    return call


def test_it_continues_with_what_is_missing_and_takes_no_other_settings(town, monkeypatch, capsys):
    run(town)
    first = (town / "out" / "segmentation.json").read_bytes()
    (town / "out" / "predictions" / "a.png").unlink()
    segmented = []
    monkeypatch.setattr(segment_module, "heated", spied(segment_module.heated, segmented))
    run(town)
    assert (town / "out" / "segmentation.json").read_bytes() == first
    assert [scene.path.name for scene in segmented] == ["a.png"]
    (town / "out" / "predictions" / "a.png").write_bytes(b"torn")
    with pytest.raises(InputError, match="1 of 2 images can't be used"):
        run(town)
    assert "a.png is damaged: delete it" in capsys.readouterr().err
    with pytest.raises(InputError, match="predictions was made with another window: give another --out"):
        run(town, "--window=32")


def test_an_image_that_cannot_be_used_is_named_and_the_others_are_measured(town, capsys):
    (town / "labels" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    Image.fromarray(np.zeros((5, 5, 3), np.uint8)).save(town / "images" / "lonely.png")
    with pytest.raises(InputError, match="2 of 3 images can't be used; all others are measured"):
        run(town)
    said = capsys.readouterr().err
    assert "a.png: label image can't be read" in said and "lonely.png: no label image of this name" in said
    assert json.loads((town / "out" / "segmentation.json").read_text())["images"] == 1


def test_labels_of_a_palette_are_its_indices_or_its_colours(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    image.putpalette([9, 9, 9, 255, 0, 0, 0, 0, 255])
    image.save(tmp_path / "palette.png")
    found = read_labels(tmp_path / "palette.png", 2, 2, (1, 2))
    assert found.tolist() == [[OTHER, 0], [1, 0]]
    coloured = read_labels(tmp_path / "palette.png", 2, 2, ((255, 0, 0), (0, 0, 255)))
    assert coloured.tolist() == found.tolist()
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bits.png")
    assert read_labels(tmp_path / "bits.png", 1, 2, (0, 1)).tolist() == [[1, 0]]
    Image.fromarray(np.array([[300, 7]], np.uint16)).save(tmp_path / "deep.png")
    assert read_labels(tmp_path / "deep.png", 1, 2, (7, 300)).tolist() == [[1, 0]]


def test_a_class_is_the_best_of_its_words_averaged_over_templates(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    patches = unit(rng.normal(size=(3, 3, 3, 8))).astype(np.float32)  # of the windows
    rows = {}

    class Random:
        def texts(self, texts):
            return np.stack([rows.setdefault(text, unit(rng.normal(size=(1, 8)))[0]) for text in texts]).astype(
                np.float32
            )

    monkeypatch.setattr(
        segment_module, "patch_encoder", lambda model, size: lambda images: patches[: len(list(images))]
    )
    Image.fromarray(np.zeros((48, 80, 3), np.uint8)).save(tmp_path / "scene.png")
    words, templates = [["road", "street"], ["water"], ["roof", "house", "hall"]], ["a {}.", "the {} here."]
    windows = selo.windows(48, 80, (48,)).tolist()
    assert len(windows) == 3
    found = segment_module.segmenter(Random(), words, templates)(open_scene(tmp_path / "scene.png"))

    total, count = np.zeros((3, 48, 80)), np.zeros((48, 80))
    for (r0, r1, c0, c1), seen in zip(windows, patches, strict=True):
        count[r0:r1, c0:c1] += 1
        for number, own in enumerate(words):
            means = [np.mean([rows[one.replace("{}", word)] for one in templates], axis=0) for word in own]
            heat = np.max([seen @ unit(mean[None])[0] for mean in means], axis=0)
            total[number, r0:r1, c0:c1] += cv2.resize(heat, (48, 48), interpolation=cv2.INTER_LINEAR)
    mean = total / count
    sure = np.diff(np.sort(mean, axis=0)[-2:], axis=0)[0] > 1e-5
    assert sure.mean() > 0.99 and len(np.unique(found)) == 3
    np.testing.assert_array_equal(found[sure], mean.argmax(axis=0)[sure])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"name": "a"}], "1 classes, 2 to 254 are expected"),
        ([{"name": "a"}, {"name": "a"}], "two classes have the name 'a'"),
        ([{"name": "a", "value": 1}, {"name": "b"}], "two classes have the value 1"),
        ([{"name": "a", "words": []}, {"name": "b"}], "the class 'a' has no words, or an empty one"),
        ([{"name": "a", "words": ["x", " "]}, {"name": "b"}], "the class 'a' has no words, or an empty one"),
        ([{"name": "a", "value": [1, 2, 3]}, {"name": "b"}], "values are indices or colours, not both"),
        ([{"name": "a", "value": [1, 2, 300]}, {"name": "b"}], "classes.json"),
        ([{"name": "a", "value": -1}, {"name": "b"}], "classes.json"),
        ({"a": 1}, "classes.json"),
    ],
)
def test_classes_that_are_none_are_one_line(tmp_path, rows, message):
    (tmp_path / "classes.json").write_text(json.dumps(rows))
    with pytest.raises(InputError, match=message):
        read_classes(tmp_path / "classes.json")


def test_classes_have_words_and_values_by_default(tmp_path):
    (tmp_path / "classes.json").write_text(json.dumps([{"name": "BareLand"}, {"name": "sea", "value": 5}]))
    found = read_classes(tmp_path / "classes.json")
    assert found == (("BareLand", "sea"), (("bare land",), ("sea",)), (0, 5))


def test_known_data_sets_have_classes_and_a_file_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = {name: read_classes(Path(name)) for name in ("loveda", "Potsdam", "vaihingen")}
    assert {name: len(own.names) for name, own in found.items()} == {"loveda": 7, "Potsdam": 6, "vaihingen": 6}
    assert found["loveda"].values == tuple(range(1, 8)) and found["Potsdam"].values[2] == (0, 0, 255)
    assert found["vaihingen"].words[0] == ("clutter", "background")
    Path("loveda").write_text('[{"name": "a"}, {"name": "b"}]')
    assert read_classes(Path("loveda")).names == ("a", "b")
    with pytest.raises(InputError, match="nowhere is missing"):
        read_classes(Path("nowhere"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda root: Image.new("L", (9, 9)).save(root / "labels" / "a.png"),
            "labels of 9×9 pixels for an image of 64×96",
        ),
        (lambda root: Image.new("RGB", (96, 64)).save(root / "labels" / "a.png"), "the label image holds colours"),
        (lambda root: (root / "labels" / "a.tif").write_bytes(b""), "two label images are called a"),
        (lambda root: (root / "images" / "a.bmp").write_bytes(b""), "two images are called a"),
        (lambda root: (root / "labels").rename(root / "other"), "labels: can't be read"),
        (
            lambda root: [file.unlink() for file in (root / "labels").rglob("*.png")],
            "no label image is called as an image below",
        ),
    ],
)
def test_labels_that_do_not_fit_are_one_line(town, capsys, change, message):
    change(town)
    with pytest.raises(InputError) as caught:
        run(town)
    assert message in str(caught.value) + capsys.readouterr().err
