import importlib
import inspect
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.models.clip import init_params
from lrsclip_jax.pytorch import families
from lrsclip_jax.pytorch.contract import Hints
from lrsclip_jax.pytorch.families import bert, dinov2, dual_encoder, huggingface, mae, openai
from lrsclip_jax.pytorch.layout import to_theirs
from lrsclip_jax.pytorch.read import read

HEADS = Hints(image_heads=2, text_heads=2)
CLIP_CONFIG = {"model_type": "clip"} | {
    f"{tower}_config": {"num_attention_heads": 2, "hidden_act": "gelu"} for tower in ("vision", "text")
}
OPEN_CLIP_CONFIG = {
    "model_cfg": {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32},
        "text_cfg": {"width": 64, "heads": 2, "layers": 2},
    }
}


def random_params(name):
    model = zoo.create(name)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
    return model, jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


DUAL_CONFIG = {
    "model_type": "vision-text-dual-encoder",
    "vision_config": {"model_type": "clip_vision_model", "num_attention_heads": 2, "hidden_act": "quick_gelu"},
    "text_config": {"model_type": "bert", "num_attention_heads": 2},
}


CLIP, PARAMS = random_params("tiny")
_, PLAIN = random_params("tiny_bert")

# Which tensors and config, and of which family they are.
SOURCES = {
    "open_clip": (to_theirs(openai.table(CLIP), PARAMS), "open_clip_config.json", OPEN_CLIP_CONFIG),
    "Hugging Face CLIPModel": (to_theirs(huggingface.table(), PARAMS), "config.json", CLIP_CONFIG),
    "Hugging Face VisionTextDualEncoderModel": (
        to_theirs(dual_encoder.table("clip", "bert"), PARAMS | {"text": PLAIN["text"]}),
        "config.json",
        DUAL_CONFIG,
    ),
    "BERT": (to_theirs(bert.table(), PLAIN), None, None),
    "MAE": (to_theirs(mae.table(), PLAIN), None, None),
    "DINOv2": (
        to_theirs([*dinov2.table(), *dinov2.layer_scales()], dinov2.with_unit_scales(PLAIN)),
        None,
        None,
    ),
}


def written(folder, tensors, name="model.safetensors"):
    save_file(tensors, folder / name)
    return folder / name


def refused(source, hints=None):
    with pytest.raises(InputError) as caught:
        read(str(source), hints)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("family", SOURCES)
def test_who_reads_what(tmp_path, family):
    tensors, name, config = SOURCES[family]
    path = written(tmp_path, tensors)
    if name:
        (tmp_path / name).write_text(json.dumps(config))
    # Of the other family: not to be looked at.
    (tmp_path / ("config.json" if family == "open_clip" else openai.CONFIG)).write_text("{")
    for source in (path, tmp_path):
        found = read(str(source), None if name else HEADS)
        assert found.family == family
        for tower, params in found.params.items():
            if tower != "logit_scale":
                assert params["blocks"]["mlp"]["fc1"]["kernel"].shape == (2, 64, 256)


def test_sources_without_a_checkpoint(tmp_path):
    assert "no file or folder" in refused(tmp_path / "none.pt")
    assert "holds no weights" in refused(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    assert "run of lrsclip_jax" in refused(tmp_path)


def test_two_weights_files_in_a_folder(tmp_path):
    tensors, _, _ = SOURCES["open_clip"]
    for name in ("a.safetensors", "b.safetensors"):
        written(tmp_path, {"logit_scale": tensors["logit_scale"]}, name)
    assert "a.safetensors, b.safetensors" in refused(tmp_path)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            ("a.weight", "b.weight", "c.weight", "d.weight"),
            "its keys are a.weight, b.weight, c.weight, …; known families: ",
        ),
        (("layer1.0.conv1.weight", "fc.weight"), "ResNet"),
        (("visual.trunk.stem.conv.weight", "visual.trunk.norm.weight"), "an image tower of timm"),
        (("base_model.model.text_model.q_proj.lora_A.weight",), "LoRA"),
        (("state.0.exp_avg",), "optimizer"),
    ],
)
def test_what_nobody_reads_is_named(tmp_path, keys, message):
    path = written(tmp_path, {key: np.zeros(2, np.float32) for key in keys})
    line = refused(path)
    assert message in line and str(path) in line


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_bad_config(tmp_path, content):
    written(tmp_path, SOURCES["open_clip"][0])
    (tmp_path / openai.CONFIG).write_text(content)
    assert str(tmp_path / openai.CONFIG) in refused(tmp_path)


@pytest.mark.parametrize(
    ("hints", "message"),
    [
        (Hints(activation="quickgelu"), "did you mean 'quick_gelu'"),
        (Hints(model="RemoteCLIP"), "--model=RemoteCLIP is no published model"),
        (Hints(image_heads=0), "--image-heads=0"),
    ],
)
def test_unknown_hints(tmp_path, hints, message):
    assert message in refused(written(tmp_path, SOURCES["open_clip"][0]), hints)


def test_every_registered_family_has_the_two_functions_that_read_asks_for():
    folder = Path(families.__file__).parent
    for name in families.FAMILIES:
        assert (folder / f"{name}.py").is_file()
        module = importlib.import_module(f"{families.__name__}.{name}")
        for function in ("recognises", "read"):
            expected = list(inspect.signature(getattr(families.Family, function)).parameters)
            assert list(inspect.signature(getattr(module, function)).parameters) == expected
