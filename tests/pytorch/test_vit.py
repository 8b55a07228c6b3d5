"""`ViTModel` and `ViTMAEModel` of transformers beside our tower, whose weights are read from theirs."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.pytorch.contract import Hints
from lrsclip_jax.pytorch.families import vit
from lrsclip_jax.pytorch.layout import to_theirs
from lrsclip_jax.pytorch.read import read

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
SIZES |= {"image_size": 32, "patch_size": 8}
DECODER = {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_intermediate_size": 16}


def randomised(model):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model.eval()


MODELS = {
    "vit": lambda: transformers.ViTModel(transformers.ViTConfig(**SIZES)),
    "classifier": lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**SIZES, layer_norm_eps=1e-2)),
    "mae": lambda: transformers.ViTMAEModel(transformers.ViTMAEConfig(**SIZES, mask_ratio=0.0)),
    "whole mae": lambda: transformers.ViTMAEForPreTraining(
        transformers.ViTMAEConfig(**SIZES, **DECODER, decoder_num_attention_heads=2, mask_ratio=0.0)
    ),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of each, and the module whose class token is looked at."""
    folders = {}
    for name, make in MODELS.items():
        folder, model = tmp_path_factory.mktemp(name.replace(" ", "_")), randomised(make())
        model.save_pretrained(folder)
        folders[name] = folder, getattr(model, "vit", model)
    return folders


@pytest.mark.parametrize("name", MODELS)
def test_the_class_token_is_transformers(saved, name):
    folder, reference = saved[name]
    found = read(str(folder))
    assert found.family == vit.FAMILIES["vit_mae" if "mae" in name else "vit"]
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    with torch.no_grad():
        expected = reference(torch.from_numpy(images).permute(0, 3, 1, 2)).last_hidden_state[:, 0]
    tower = zoo.create("tiny", image=found.image).image
    rows = jax.jit(lambda params, x: tower.apply({"params": params}, x, method="features"))(
        found.params["image"], images
    )
    assert np.abs(np.diff(expected, axis=0)).max() > 0.01
    np.testing.assert_allclose(rows, expected, atol=1e-5, rtol=0)


def test_the_names_in_files_and_in_memory_are_one_model(saved, tmp_path):
    folder, reference = saved["vit"]
    expected = read(str(folder))
    save_file(arrays(reference), tmp_path / "a.safetensors")
    found = read(str(tmp_path / "a.safetensors"), Hints(image_heads=4))
    np.testing.assert_equal(found.params, expected.params)
    assert found.image["norm_eps"] == 1e-12 and found.unused == ("pooler.dense.bias", "pooler.dense.weight")
    back, there = to_theirs(vit.table(), expected.params), load_file(folder / "model.safetensors")
    assert back.keys() == there.keys() - set(found.unused)
    for key, value in back.items():
        np.testing.assert_array_equal(value, there[key])


def arrays(model):
    return {key: np.ascontiguousarray(value.numpy()) for key, value in model.state_dict().items()}


def test_the_preprocessing_is_the_familys(saved):
    assert read(str(saved["vit"][0])).preprocessing.mean == (0.5, 0.5, 0.5)
    found = read(str(saved["whole mae"][0]))
    assert found.preprocessing.mean == (0.485, 0.456, 0.406) and found.preprocessing.size == 32
    assert "decoder.mask_token" in found.unused and not found.antialias


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embeddings.distillation_token": np.ones((1, 1, 32))}, "is a DeiT with a token of distillation"),
        ({"encoder.layer.0.lambda_1": np.ones(32)}, "is a BEiT"),
        ({"embeddings.detection_tokens": np.ones((1, 9, 32))}, "is a YOLOS"),
        ({"embeddings.position_embeddings": np.ones((1, 16, 32))}, "no row of a class token and a square grid"),
        ({"encoder.layer.1.output.dense.bias": None}, "not a ViTModel: it lacks encoder.layer.1.output.dense.bias"),
        ({"norm.weight": np.ones(3)}, "has also norm.weight"),
        ({"model_type": "vit_hybrid"}, "model_type 'vit_hybrid', a plain ViT vit, vit_mae"),
    ],
)
def test_another_architecture_is_one_line(saved, tmp_path, change, message):
    tensors = load_file(saved["vit"][0] / "model.safetensors")
    config = json.loads((saved["vit"][0] / "config.json").read_text())
    for key, value in change.items():
        if value is None:
            del tensors[key]
        else:
            (config if key == "model_type" else tensors)[key] = value
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=message) as caught:
        read(str(tmp_path))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_dual_encoder_with_a_vit_is_named(tmp_path):
    keys = ("visual_projection.weight", "text_projection.weight", "vision_model.encoder.layer.0.layernorm_before.bias")
    save_file({key: np.ones(2) for key in keys}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vision-text-dual-encoder"}))
    with pytest.raises(InputError, match="is a dual encoder with a ViTModel, whose pooler no tower here has"):
        read(str(tmp_path))
