import functools

import numpy as np
import pytest
from safetensors.numpy import save_file

from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING, IMAGENET_PREPROCESSING
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.pytorch.contract import Hints
from lrsclip_jax.pytorch.families import bert, dinov2, dual_encoder, huggingface
from lrsclip_jax.pytorch.files.tensors import open_tensors
from lrsclip_jax.pytorch.layout import shapes, to_theirs

IMAGE = {"size": 28, "patch": 14, "width": 12, "layers": 2, "heads": 3, "mlp_width": 24, "embed_dim": 6}
TEXT = {"context_length": 9, "width": 8, "layers": 2, "heads": 2, "mlp_width": 16, "embed_dim": 6}
IMAGES = {
    "dinov2": IMAGE | {"patch_bias": True, "pre_norm": False, "norm_eps": 1e-6, "activation": "gelu", "pool": "cls"},
    "clip": IMAGE
    | {"patch_bias": False, "pre_norm": True, "norm_eps": 1e-5, "activation": "quick_gelu", "pool": "cls"},
}
TEXTS = {
    "bert": TEXT | {"kind": "bert", "vocab_size": 30522, "norm_eps": 1e-12, "activation": "gelu", "pool": "pooler"},
    "clip": TEXT
    | {
        "kind": "transformer",
        "vocab_size": 49408,
        "norm_eps": 1e-5,
        "activation": "quick_gelu",
        "end_token": 49407,
    },
}


@functools.cache
def random_params(image, text):
    rng = np.random.default_rng(0)
    params = {}
    for path, shape in shapes(zoo.create("custom", image=IMAGES[image], text=TEXTS[text])).items():
        *parents, name = path.split("/")
        inner = params
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = rng.normal(size=shape).astype(np.float32)
    return params


def written(folder, image, text):
    """The tensors and the config of a dual encoder, and the parameters that they were made of."""
    params = random_params(image, text)
    whole = dinov2.with_unit_scales(params) if image == "dinov2" else params
    config = {
        "model_type": "vision-text-dual-encoder",
        "vision_config": {"num_attention_heads": 3, "model_type": {"clip": "clip_vision_model"}.get(image, image)},
        "text_config": {"num_attention_heads": 2, "model_type": {"clip": "clip_text_model"}.get(text, text)},
    }
    return to_theirs(dual_encoder.table(image, text), whole), config, params


def read(tensors, config, folder, hints=Hints()):  # noqa: B008
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, folder / "model.safetensors")
    file = open_tensors(folder / "model.safetensors")
    assert dual_encoder.recognises(file)
    return dual_encoder.read(file, config, hints, folder)


@pytest.mark.slow
@pytest.mark.parametrize(("image", "text"), [("dinov2", "bert"), ("dinov2", "clip"), ("clip", "bert")])
def test_a_model_of_any_two_towers_comes_back(tmp_path, image, text):
    tensors, config, params = written(tmp_path, image, text)
    found = read(tensors, config, tmp_path)
    np.testing.assert_equal(found.params, params)
    assert (found.image, found.text) == (IMAGES[image], TEXTS[text])
    default = {"dinov2": IMAGENET_PREPROCESSING, "clip": CLIP_PREPROCESSING}[image]
    assert (found.preprocessing.size, found.preprocessing.mean) == (28, default.mean)
    assert found.antialias == (image == "clip") and found.reasons["image.heads"] == "config.json"


def test_each_towers_own_names_stand_behind_its_prefix(tmp_path):
    tensors, _, _ = written(tmp_path, "dinov2", "bert")
    models = {"vision_model": [*dinov2.table(), *dinov2.layer_scales()], "text_model": bert.table()}
    layers = [
        f"{name}.{key.format(i)}"
        for name, table in models.items()
        for leaf in table
        for key in leaf.keys
        for i in (0, 1)
    ]
    assert set(tensors) == {*layers, "visual_projection.weight", "text_projection.weight", "logit_scale"}


def test_the_names_of_transformers_4(tmp_path):
    tensors, config, params = written(tmp_path, "dinov2", "clip")
    twice = {f"text_model.{key}" if key.startswith("text_model.") else key: value for key, value in tensors.items()}
    twice["vision_model.embeddings.mask_token"] = np.zeros((1, 12), np.float32)
    found = read(twice, config, tmp_path)
    np.testing.assert_equal(found.params, params)
    assert found.unused == ("vision_model.embeddings.mask_token",)


def test_two_towers_of_clip_are_a_clip_model(tmp_path):
    tensors, config, params = written(tmp_path, "clip", "clip")
    save_file(tensors, tmp_path / "model.safetensors")
    file = open_tensors(tmp_path / "model.safetensors")
    assert huggingface.recognises(file) and not dual_encoder.recognises(file)
    np.testing.assert_equal(huggingface.read(file, config, Hints(), tmp_path).params, params)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t, c: c.update(model_type="chinese_clip"), "its model_type is 'chinese_clip'"),
        (lambda t, c: c.clear(), "its model_type is None"),
        (lambda t, c: t.pop("text_model.pooler.dense.weight"), "it lacks text_model.pooler.dense.weight$"),
        (lambda t, c: t.pop("vision_model.embeddings.cls_token"), "its image tower is none that can be converted"),
        (lambda t, c: t.pop("vision_model.encoder.layer.0.layer_scale1.lambda1"), "lacks .*layer_scale1.lambda1$"),
        (
            lambda t, c: t.update({"visual_projection.weight": np.ones((5, 12))}),
            r"has shape \[6, 8\], the other .* \[5, 8\]",
        ),
        (lambda t, c: t.update({"text_model.roberta.bias": np.ones(3)}), "is a RoBERTa"),
        (
            lambda t, c: t.update({"vision_model.embeddings.register_tokens": np.ones(3)}),
            r"register tokens \(vision_model\.embeddings\.register_tokens\)",
        ),
        (lambda t, c: c["vision_config"].update(hidden_act="silu"), "'silu' .*is not supported"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, spoil, message):
    tensors, config, _ = written(tmp_path, "dinov2", "bert")
    spoil(tensors, config)
    with pytest.raises(InputError, match=message) as caught:
        read(tensors, config, tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_config_is_needed(tmp_path):
    tensors, _, _ = written(tmp_path, "clip", "bert")
    with pytest.raises(InputError, match="there is none"):
        read(tensors, None, tmp_path)


def test_another_vocabulary_beside_it_is_refused(tmp_path):
    tensors, config, _ = written(tmp_path, "clip", "bert")
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    with pytest.raises(InputError, match="vocab.txt is another vocabulary"):
        read(tensors, config, tmp_path)
