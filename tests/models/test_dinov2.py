import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lrsclip_jax.data.preprocessing import IMAGENET_PREPROCESSING
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.pytorch.contract import Hints
from lrsclip_jax.pytorch.families import dinov2
from lrsclip_jax.pytorch.files.tensors import open_tensors
from lrsclip_jax.pytorch.layout import shapes, to_theirs

WIDTH, HEADS, PATCH, GRID = 32, 4, 14, 5


@pytest.fixture
def checkpoint(tmp_path):
    """A two-layer DINOv2 of random fp16 weights, LayerScale far from 1."""
    rng = np.random.default_rng(0)
    sizes = {
        "embeddings.cls_token": (1, 1, WIDTH),
        "embeddings.mask_token": (1, WIDTH),
        "embeddings.position_embeddings": (1, 1 + GRID**2, WIDTH),
        "embeddings.patch_embeddings.projection.weight": (WIDTH, 3, PATCH, PATCH),
        "embeddings.patch_embeddings.projection.bias": (WIDTH,),
        "layernorm.weight": (WIDTH,),
        "layernorm.bias": (WIDTH,),
    }
    for layer in range(2):
        prefix = f"encoder.layer.{layer}"
        for name in (
            "attention.attention.query",
            "attention.attention.key",
            "attention.attention.value",
            "attention.output.dense",
        ):
            sizes |= {f"{prefix}.{name}.weight": (WIDTH, WIDTH), f"{prefix}.{name}.bias": (WIDTH,)}
        sizes |= {
            f"{prefix}.mlp.fc1.weight": (4 * WIDTH, WIDTH),
            f"{prefix}.mlp.fc1.bias": (4 * WIDTH,),
            f"{prefix}.mlp.fc2.weight": (WIDTH, 4 * WIDTH),
            f"{prefix}.mlp.fc2.bias": (WIDTH,),
        }
        for name in (
            "norm1.weight",
            "norm1.bias",
            "norm2.weight",
            "norm2.bias",
            "layer_scale1.lambda1",
            "layer_scale2.lambda1",
        ):
            sizes[f"{prefix}.{name}"] = (WIDTH,)
    tensors = {key: rng.normal(size=shape).astype(np.float16) for key, shape in sizes.items()}
    for key, tensor in tensors.items():
        if key.endswith("weight") and tensor.ndim > 1:
            tensor *= 0.1
    path = tmp_path / "model.safetensors"
    save_file(tensors, path)
    return path


def rewritten(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, path)
    return path


def read(path, config=None, heads=HEADS):
    tensors = open_tensors(path)
    assert dinov2.recognises(tensors)
    return dinov2.read(tensors, config, Hints(image_heads=heads), path.parent)


def named_by_its_authors(tensors):
    """The same under the key names of github.com/facebookresearch/dinov2, query, key and value in one layer."""
    names = {
        "embeddings.cls_token": "cls_token",
        "embeddings.mask_token": "mask_token",
        "embeddings.position_embeddings": "pos_embed",
        "embeddings.patch_embeddings.projection": "patch_embed.proj",
        "layernorm": "norm",
        "encoder.layer": "blocks",
        "attention.output.dense": "attn.proj",
        "layer_scale1.lambda1": "ls1.gamma",
        "layer_scale2.lambda1": "ls2.gamma",
    }
    fused = {}
    for layer in range(2):
        for part in ("weight", "bias"):
            keys = [f"encoder.layer.{layer}.attention.attention.{name}.{part}" for name in ("query", "key", "value")]
            fused[f"blocks.{layer}.attn.qkv.{part}"] = np.concatenate([tensors.pop(key) for key in keys])
    for key in list(tensors):
        new = key
        for old, name in names.items():
            new = new.replace(old, name)
        tensors[new] = tensors.pop(key)
    tensors |= fused


def test_every_leaf_but_the_projection_with_the_modules_shapes(checkpoint):
    found = read(checkpoint)
    expected = shapes(zoo.create("tiny", image=found.image))
    leaves = {f"image/{path}": leaf for path, leaf in paths(found.params["image"])}
    wanted = {path for path in expected if path.startswith("image/") and "projection" not in path}
    assert {path: leaf.shape for path, leaf in leaves.items()} == {path: expected[path] for path in wanted}
    assert all(leaf.dtype == np.float32 for leaf in leaves.values())


def paths(tree):
    return [
        (jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in jax.tree.leaves_with_path(tree)
    ]


def test_the_fields_are_dinov2s(checkpoint):
    found = read(checkpoint)
    assert found.image == {
        "size": GRID * PATCH,
        "patch": PATCH,
        "width": WIDTH,
        "layers": 2,
        "heads": HEADS,
        "mlp_width": 4 * WIDTH,
        "patch_bias": True,
        "pre_norm": False,
        "norm_eps": 1e-6,
        "activation": "gelu",
        "pool": "cls",
    }
    assert found.text is None and not found.antialias
    assert found.unused == ("embeddings.mask_token",)
    assert (found.preprocessing.size, found.preprocessing.std) == (GRID * PATCH, IMAGENET_PREPROCESSING.std)
    config = {"model_type": "dinov2", "num_attention_heads": 8, "layer_norm_eps": 1e-5}
    of_config = read(checkpoint, config, heads=None)
    assert (of_config.image["heads"], of_config.image["norm_eps"]) == (8, 1e-5)
    assert of_config.reasons["image.heads"] == "config.json"


def test_layer_scale_is_folded(checkpoint):
    def without(tensors):
        for key in tensors:
            if "layer_scale" in key:
                tensors[key] = np.ones_like(tensors[key])

    scales = [load_file(checkpoint)[f"encoder.layer.1.layer_scale{i}.lambda1"].astype(np.float32) for i in (1, 2)]
    folded = read(checkpoint).params["image"]["blocks"]
    plain = read(rewritten(checkpoint, without)).params["image"]["blocks"]
    for module, name, scale in (("attention", "out", scales[0]), ("mlp", "fc2", scales[1])):
        for part in ("kernel", "bias"):
            np.testing.assert_array_equal(folded[module][name][part][1], plain[module][name][part][1] * scale)


def test_what_is_written_is_read_back_bit_by_bit(checkpoint, tmp_path):
    params = read(checkpoint).params
    leaves = [*dinov2.table(), *dinov2.layer_scales()]
    written = tmp_path / "again.safetensors"
    save_file(to_theirs(leaves, dinov2.with_unit_scales(params)), written)
    assert load_file(written).keys() == load_file(checkpoint).keys() - {"embeddings.mask_token"}
    np.testing.assert_equal(read(written).params, params)


def test_its_authors_names_and_those_of_transformers_in_memory(checkpoint):
    expected = read(checkpoint).params

    def in_memory(tensors):
        for key in list(tensors):
            for old, new in (("attention.query", "q"), ("attention.key", "k"), ("attention.value", "v")):
                if f"attention.{old}" in key:
                    tensors[key.replace(f"attention.{old}", f"attention.{new}_proj")] = tensors.pop(key)
            if "attention.output.dense" in key:
                tensors[key.replace("output.dense", "o_proj")] = tensors.pop(key)

    saved = load_file(checkpoint)
    np.testing.assert_equal(read(rewritten(checkpoint, in_memory)).params, expected)
    save_file(saved, checkpoint)
    theirs = read(rewritten(checkpoint, named_by_its_authors), config={"architecture": "vit_small_patch14_dinov2"})
    np.testing.assert_equal(theirs.params, expected)
    assert theirs.unused == ("mask_token",)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("encoder.layer.0.mlp.fc2.bias"), r"it lacks encoder\.layer\.0\.mlp\.fc2\.bias$"),
        (
            lambda t: [t.pop(key) for key in list(t) if "mlp.fc2" in key or ("norm" in key and "layer.1" in key)],
            r"lacks encoder\.layer\.0.* and has also encoder\.layer\.1.* and \d+ more$",
        ),
        (lambda t: t.pop("embeddings.patch_embeddings.projection.weight"), "lacks embeddings.patch_embeddings.proj"),
        (
            lambda t: t.update({"embeddings.register_tokens": np.zeros((1, 4, 7))}),
            r"embeddings\.register_tokens has shape \[1, 4, 7\], the other tensors want \[1, 4, 32\]",
        ),
        (
            lambda t: t.update({"reg_token": np.zeros((1, 4, WIDTH))}),
            r"a DINOv2 with register tokens \(reg_token\) is not supported",
        ),
        (
            lambda t: t.update({"encoder.layer.0.mlp.weights_in.weight": np.zeros((8, WIDTH))}),
            r"a DINOv2 with a SwiGLU \(encoder\.layer\.0\.mlp\.weights_in\.weight\) is not supported",
        ),
        (
            lambda t: t.update({"encoder.layer.1.norm1.weight": np.zeros(7)}),
            r"encoder\.layer\.1\.norm1\.weight has shape \[7\], the other tensors want \[32\]",
        ),
    ],
)
def test_another_file_is_one_line(checkpoint, change, message):
    with pytest.raises(InputError, match=message) as caught:
        read(rewritten(checkpoint, change))
    assert "\n" not in str(caught.value) and str(checkpoint) in str(caught.value)


def test_heads_are_told_or_published_but_not_guessed(checkpoint):
    with pytest.raises(InputError, match="width 32 does not divide into 5 heads"):
        read(checkpoint, heads=5)
    with pytest.raises(InputError, match=r"image heads at width 32: say .*image.heads.*ViT-S/14 6"):
        read(checkpoint, heads=None)
    with pytest.raises(InputError, match="config.json says 8, .*image.heads says 4"):
        read(checkpoint, config={"model_type": "dinov2", "num_attention_heads": 8})


def test_a_hidden_activation_of_another_kind_is_refused(checkpoint):
    with pytest.raises(InputError, match="'relu' .*is not supported"):
        read(checkpoint, config={"model_type": "dinov2", "hidden_act": "relu", "num_attention_heads": 4})


def test_a_table_that_is_no_grid(checkpoint):
    rewritten(checkpoint, lambda t: t.update({"embeddings.position_embeddings": np.zeros((1, 25, WIDTH))}))
    with pytest.raises(InputError, match="is no row of a class token and a square grid"):
        read(checkpoint)


def test_statistics_of_the_folder(checkpoint):
    values = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1], "size": {"shortest_edge": 256}}
    (checkpoint.parent / "preprocessor_config.json").write_text(json.dumps(values))
    assert read(checkpoint).preprocessing.mean == (0.1, 0.2, 0.3)


def test_other_families_are_not_recognised(checkpoint):
    rewritten(checkpoint, lambda t: [t.pop(key) for key in list(t) if "layer_scale" in key])
    assert not dinov2.recognises(open_tensors(checkpoint))
