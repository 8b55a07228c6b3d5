import json

import pytest

from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING, IMAGENET_PREPROCESSING
from lrsclip_jax.errors import InputError
from lrsclip_jax.pytorch.families.preprocessor import normalisation, preprocessing

STATISTICS = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}


def write(folder, values, name="preprocessor_config.json"):
    (folder / name).write_text(json.dumps(values))


def test_without_a_file_it_is_the_familys(tmp_path):
    found, reason = preprocessing(tmp_path, 336, CLIP_PREPROCESSING)
    assert (found.size, found.mean, found.std, found.crop) == (
        336,
        CLIP_PREPROCESSING.mean,
        CLIP_PREPROCESSING.std,
        "center",
    )
    assert reason == "the family's"


@pytest.mark.parametrize(
    "values",
    [
        {},  # all that is left out is CLIP's
        {"size": 224, "crop_size": 224, "resample": 3, "do_resize": True},
        {
            "size": {"shortest_edge": 224},
            "crop_size": {"height": 224, "width": 224},
            "rescale_factor": 0.00392156862745098,
        },
    ],
)
def test_old_and_new_forms(tmp_path, values):
    write(tmp_path, STATISTICS | values)
    found, reason = preprocessing(tmp_path, 224, CLIP_PREPROCESSING)
    assert (found.size, found.mean, found.std) == (224, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    assert reason == "preprocessor_config.json"


def test_the_newer_file_goes_first(tmp_path):
    write(tmp_path, STATISTICS | {"image_mean": [0, 0, 0]})
    write(tmp_path, {"processor_class": "CLIPProcessor"}, "processor_config.json")
    assert preprocessing(tmp_path, 224, CLIP_PREPROCESSING)[0].mean == (0, 0, 0)
    write(tmp_path, {"image_processor": STATISTICS}, "processor_config.json")
    assert preprocessing(tmp_path, 224, CLIP_PREPROCESSING)[0].mean == (0.5, 0.4, 0.3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 256}, r'size is 256, .* 224 pixels: only {"shortest_edge": 224} is supported'),
        ({"size": {"height": 224, "width": 224}}, r"size is {\"height\": 224, \"width\": 224}"),
        ({"crop_size": {"height": 224, "width": 200}}, "crop_size is .*200"),
        ({"resample": 2}, r"resample is 2, only 3 \(bicubic\) is supported"),
        ({"do_center_crop": False}, "do_center_crop is False, only true is supported"),
        ({"do_resize": None}, "do_resize is None"),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor is 0.0078"),
        ({"image_mean": None}, "image_mean: expected a list, got null"),
        ({"image_std": [0.5]}, "image_std: expected a list of length 3, got 1"),
    ],
)
def test_another_transform_is_named(tmp_path, values, message):
    write(tmp_path, STATISTICS | values)
    with pytest.raises(InputError, match=message) as caught:
        preprocessing(tmp_path, 224, CLIP_PREPROCESSING)
    assert str(tmp_path / "preprocessor_config.json") in str(caught.value) and "\n" not in str(caught.value)


def test_a_model_of_another_size_wants_its_size_said(tmp_path):
    write(tmp_path, STATISTICS)
    with pytest.raises(InputError, match="size is 224, the model's images have 336 pixels"):
        preprocessing(tmp_path, 336, CLIP_PREPROCESSING)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_torn_file_is_one_line(tmp_path, text):
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(InputError, match="preprocessor_config.json: (not JSON|expected an object, got a list)"):
        preprocessing(tmp_path, 224, CLIP_PREPROCESSING)


def test_of_a_tower_trained_alone_only_the_statistics_count(tmp_path):
    assert normalisation(tmp_path, 518, IMAGENET_PREPROCESSING)[0].mean == IMAGENET_PREPROCESSING.mean
    write(tmp_path, STATISTICS | {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}})
    found, _ = normalisation(tmp_path, 518, IMAGENET_PREPROCESSING)
    assert (found.size, found.mean) == (518, (0.5, 0.4, 0.3))
