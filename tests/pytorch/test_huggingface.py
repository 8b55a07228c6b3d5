import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.models.clip import CLIP
from lrsclip_jax.pytorch.contract import Hints
from lrsclip_jax.pytorch.families import huggingface
from lrsclip_jax.pytorch.files.tensors import open_tensors
from lrsclip_jax.pytorch.layout import to_theirs

LAYERS, PATCH, GRID, TOKENS, LENGTH, EMBED = 2, 4, 3, 49408, 10, 6
WIDTH = {"vision_model": 12, "text_model": 8}
HEADS = {"vision_model": 3, "text_model": 2}


@pytest.fixture
def tensors():
    """A CLIPModel of random values; widths, heads, MLPs and depths of the towers differ."""
    shapes = {
        "vision_model.embeddings.class_embedding": (12,),
        "vision_model.embeddings.patch_embedding.weight": (12, 3, PATCH, PATCH),
        "vision_model.embeddings.position_embedding.weight": (1 + GRID**2, 12),
        "text_model.embeddings.token_embedding.weight": (TOKENS, 8),
        "text_model.embeddings.position_embedding.weight": (LENGTH, 8),
        "visual_projection.weight": (EMBED, 12),
        "text_projection.weight": (EMBED, 8),
        "logit_scale": (),
    }
    norms = {"vision_model.pre_layrnorm": 12, "vision_model.post_layernorm": 12, "text_model.final_layer_norm": 8}
    for tower, mlp_width, layers in (("vision_model", 20, 2), ("text_model", 32, 3)):
        width = WIDTH[tower]
        for layer in range(layers):
            block = f"{tower}.encoder.layers.{layer}"
            products = {f"self_attn.{part}_proj": (width, width) for part in ("q", "k", "v", "out")}
            products |= {"mlp.fc1": (mlp_width, width), "mlp.fc2": (width, mlp_width)}
            for name, shape in products.items():
                shapes |= {f"{block}.{name}.weight": shape, f"{block}.{name}.bias": shape[:1]}
            norms |= {f"{block}.layer_norm1": width, f"{block}.layer_norm2": width}
    for name, width in norms.items():
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    rng = np.random.default_rng(0)
    return {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}


@pytest.fixture
def config():
    return {
        "model_type": "clip",
        "vision_config": {"num_attention_heads": 3, "hidden_act": "gelu", "layer_norm_eps": 1e-4},
        "text_config": {"num_attention_heads": 2, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
    }


def read(tensors, config, folder, hints=Hints()):  # noqa: B008
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, folder / "model.safetensors")
    file = open_tensors(folder / "model.safetensors")
    assert huggingface.recognises(file)
    return huggingface.read(file, config, hints, folder)


def test_every_tensor_finds_its_place_and_its_way_back(tensors, config, tmp_path):
    found = read(tensors, config, tmp_path)
    text, image = found.params["text"], found.params["image"]
    block = "text_model.encoder.layers.2"
    for index, part in enumerate("qkv"):
        weight, bias = (tensors[f"{block}.self_attn.{part}_proj.{kind}"] for kind in ("weight", "bias"))
        # Output 5 of their product is feature 1 of our second head of four.
        np.testing.assert_array_equal(text["blocks"]["attention"]["qkv"]["kernel"][2, :, index, 1, 1], weight[5])
        np.testing.assert_array_equal(text["blocks"]["attention"]["qkv"]["bias"][2, index, 1], bias[4:])
    out = tensors[f"{block}.self_attn.out_proj.weight"]
    np.testing.assert_array_equal(text["blocks"]["attention"]["out"]["kernel"][2, 1], out[:, 4:].T)
    np.testing.assert_array_equal(text["blocks"]["mlp"]["fc2"]["kernel"][2], tensors[f"{block}.mlp.fc2.weight"].T)
    patches = tensors["vision_model.embeddings.patch_embedding.weight"]
    np.testing.assert_array_equal(image["patch_embedding"]["kernel"][1, 2, 0], patches[:, 0, 1, 2])
    np.testing.assert_array_equal(image["projection"]["kernel"], tensors["visual_projection.weight"].T)
    back = to_theirs(huggingface.table(), found.params)
    assert back.keys() == tensors.keys()
    for key, value in tensors.items():
        np.testing.assert_array_equal(back[key], value, err_msg=key)


def test_the_fields_make_the_model(tensors, config, tmp_path):
    found = read(tensors, config, tmp_path)
    assert found.image == {
        "size": PATCH * GRID,
        "patch": PATCH,
        "width": 12,
        "layers": 2,
        "heads": 3,
        "mlp_width": 20,
        "embed_dim": EMBED,
        "patch_bias": False,
        "pre_norm": True,
        "norm_eps": 1e-4,
        "activation": "gelu",
        "pool": "cls",
    }
    assert found.text == {
        "kind": "transformer",
        "vocab_size": TOKENS,
        "context_length": LENGTH,
        "width": 8,
        "layers": 3,
        "heads": 2,
        "mlp_width": 32,
        "embed_dim": EMBED,
        "norm_eps": 1e-5,
        "activation": "quick_gelu",
        "end_token": 49407,
    }
    assert isinstance(zoo.create("custom", image=found.image, text=found.text), CLIP)
    assert found.antialias and found.unused == ()
    assert found.reasons["image.activation"] == found.reasons["text.heads"] == "config.json"
    assert (found.preprocessing.size, found.preprocessing.mean) == (PATCH * GRID, CLIP_PREPROCESSING.mean)


def test_absent_keys_have_transformers_defaults(tensors, config, tmp_path):
    del config["vision_config"]["num_attention_heads"], config["text_config"]
    found = read(tensors, config, tmp_path)
    assert found.image["heads"] == 12 and found.text["heads"] == 8
    assert (found.text["activation"], found.text["norm_eps"]) == ("quick_gelu", 1e-5)


def test_the_dicts_of_old_configs_go_first(tensors, config, tmp_path):
    config |= {"vision_config_dict": {"num_attention_heads": 4}, "text_config_dict": None}
    found = read(tensors, config, tmp_path)
    assert (found.image["heads"], found.image["activation"]) == (4, "quick_gelu")
    assert (found.text["heads"], found.text["activation"]) == (2, "quick_gelu")


def test_a_2_as_the_end_token_means_the_highest_id(tensors, config, tmp_path):
    for said, end_token in ((2, 49407), (49406, 49406)):
        config["text_config"]["eos_token_id"] = said
        assert read(tensors, config, tmp_path).text["end_token"] == end_token


def test_buffers_and_names_of_older_versions(tensors, config, tmp_path):
    expected = read(tensors, config, tmp_path).params
    older = {f"{key.split('.')[0]}.{key}" if "_model." in key else key: value for key, value in tensors.items()}
    older["text_model.text_model.embeddings.position_ids"] = np.arange(LENGTH)[None]
    config["model_type"] = "vision-text-dual-encoder"
    found = read(older, config, tmp_path)
    np.testing.assert_equal(found.params, expected)
    assert found.unused == ("text_model.embeddings.position_ids",)


def test_other_dtypes_become_float32(tensors, config, tmp_path):
    key = "text_model.embeddings.position_embedding.weight"
    half = tensors | {key: tensors[key].astype(np.float16), "logit_scale": tensors["logit_scale"].reshape(1)}
    found = read(half, config, tmp_path)
    np.testing.assert_array_equal(found.params["text"]["position_embedding"], half[key].astype(np.float32))
    assert found.params["text"]["position_embedding"].dtype == np.float32
    assert found.params["logit_scale"] == tensors["logit_scale"] and found.params["logit_scale"].shape == ()


def drop(name):
    return lambda tensors, config: tensors.pop(name)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop("visual_projection.weight"), "lacks visual_projection.weight"),
        (
            drop("vision_model.embeddings.patch_embedding.weight"),
            "lacks vision_model.embeddings.patch_embedding.weight",
        ),
        (
            drop("text_model.encoder.layers.1.mlp.fc1.bias"),
            "not a CLIPModel: it lacks text_model.encoder.layers.1.mlp.fc1",
        ),
        (lambda t, c: t.update(logit_bias=np.ones(1)), "not a CLIPModel: it has also logit_bias$"),
        (
            lambda t, c: t.update({"vision_model.encoder.layers.1.layer_norm1.bias": np.ones(5)}),
            r"layers\.1\.layer_norm1\.bias has shape \[5\], the other tensors want \[12\]",
        ),
        (
            lambda t, c: t.update({"vision_model.embeddings.position_embedding.weight": np.ones((9, 12))}),
            r"of shape \[9, 12\] is no row of a class token and a square grid",
        ),
        (
            lambda t, c: t.update({"vision_model.embeddings.patch_embedding.weight": np.ones(12)}),
            r"patch_embedding\.weight has shape \[12\], it should have 4 dimensions",
        ),
        (
            lambda t, c: t.update({"text_model.embeddings.token_embedding.weight": np.ones((100, 8))}),
            "a vocabulary of 100 tokens, supported is CLIP's of 49408",
        ),
        (lambda t, c: c.update(model_type="siglip"), "model_type 'siglip', a CLIPModel 'clip'"),
        (
            lambda t, c: c["text_config"].update(hidden_act="gelu_new"),
            "'gelu_new' .config.json. is not supported, quick",
        ),
        (lambda t, c: c["text_config"].update(num_attention_heads=3), "text width 8 does not divide into 3 heads"),
        (
            lambda t, c: c["text_config"].update(eos_token_id=[2, 3]),
            r"eos_token_id \[2, 3\], it is the number of",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(tensors, config, tmp_path, spoil, message):
    spoil(tensors, config)
    with pytest.raises(InputError, match=message) as caught:
        read(tensors, config, tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_config_is_needed(tensors, tmp_path):
    with pytest.raises(InputError, match="comes with a config.json"):
        read(tensors, None, tmp_path)


@pytest.mark.parametrize(
    ("hints", "message"),
    [
        (Hints(activation="gelu"), "config.json says quick_gelu, .*activation says gelu"),
        (Hints(image_heads=4), "config.json says 3, .*image.heads says 4"),
        (Hints(text_heads=4), "config.json says 2, .*text.heads says 4"),
    ],
)
def test_a_hint_must_not_contradict_the_config(tensors, config, tmp_path, hints, message):
    with pytest.raises(InputError, match=message):
        read(tensors, config, tmp_path, hints)
    assert read(tensors, config, tmp_path, Hints(image_heads=3, text_heads=2)).image["heads"] == 3


def test_another_model_is_not_recognised(tensors, tmp_path):
    del tensors["vision_model.embeddings.class_embedding"]  # SigLIP has none
    save_file(tensors, tmp_path / "model.safetensors")
    assert not huggingface.recognises(open_tensors(tmp_path / "model.safetensors"))


def test_the_preprocessing_beside_it(tensors, config, tmp_path):
    values = {"size": 12, "crop_size": 12, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    found = read(tensors, config, tmp_path)
    assert (found.preprocessing.size, found.preprocessing.mean) == (12, (0.5, 0.4, 0.3))
    assert found.reasons["preprocessing"] == "preprocessor_config.json"
