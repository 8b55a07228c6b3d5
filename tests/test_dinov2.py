import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lrsclip_jax.convert.dinov2 import dinov2_image_tower
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.models.clip import init_params

WIDTH, HEADS, PATCH, GRID = 32, 4, 14, 5


@pytest.fixture
def checkpoint(tmp_path):
    """A two-layer DINOv2 of random fp16 weights, LayerScale far from 1."""
    rng = np.random.default_rng(0)
    shapes = {
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
            shapes |= {f"{prefix}.{name}.weight": (WIDTH, WIDTH), f"{prefix}.{name}.bias": (WIDTH,)}
        shapes |= {
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
            shapes[f"{prefix}.{name}"] = (WIDTH,)
    tensors = {key: rng.normal(size=shape).astype(np.float16) for key, shape in shapes.items()}
    for key, tensor in tensors.items():
        if key.endswith("weight") and tensor.ndim > 1:
            tensor *= 0.1
    path = tmp_path / "model.safetensors"
    save_file(tensors, path)
    return path


def rewritten(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    return path


def tower(size):
    return zoo.create("vits14", image={"size": size, "width": WIDTH, "heads": HEADS, "layers": 2})


@pytest.mark.parametrize("size", [70, 112, 42])
def test_tokens_equal_transformers(checkpoint, size):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    transformers.Dinov2Config(
        hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=HEADS, patch_size=PATCH, image_size=GRID * PATCH
    ).save_pretrained(checkpoint.parent)
    reference, loaded = transformers.Dinov2Model.from_pretrained(
        checkpoint.parent, dtype=torch.float32, output_loading_info=True
    )
    assert not any(loaded.values()), loaded
    images = np.random.default_rng(1).normal(size=(2, size, size, 3)).astype(np.float32)
    with torch.no_grad():
        expected = reference(torch.from_numpy(images).permute(0, 3, 1, 2)).last_hidden_state

    params = dinov2_image_tower(checkpoint, size, HEADS)
    both = jax.jit(
        lambda params, images: tower(size).image.apply(
            {"params": params}, images, method=lambda vit, x: (vit.features(x), vit.post_norm(vit.hidden(x)))
        )
    )
    found = both(params, images)
    np.testing.assert_allclose(found[0], expected[:, 0], atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(found[1], expected, atol=1e-5, rtol=1e-5)


def test_every_leaf_but_the_projection_with_the_modules_shapes(checkpoint):
    model = tower(112)
    expected = jax.eval_shape(lambda key: init_params(model, key), jax.random.key(0))["image"]
    del expected["projection"]
    found = dinov2_image_tower(checkpoint, 112, HEADS)
    assert jax.tree.map(np.shape, found) == jax.tree.map(lambda leaf: leaf.shape, expected)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(found))


def test_layer_scale_is_folded(checkpoint):
    def without(tensors):
        for key in tensors:
            if "layer_scale" in key:
                tensors[key] = np.ones_like(tensors[key])

    scale = load_file(checkpoint)["encoder.layer.1.layer_scale2.lambda1"].astype(np.float32)
    folded = dinov2_image_tower(checkpoint, 70, HEADS)["blocks"]["mlp"]["fc2"]
    plain = dinov2_image_tower(rewritten(checkpoint, without), 70, HEADS)["blocks"]["mlp"]["fc2"]
    np.testing.assert_array_equal(folded["kernel"][1], plain["kernel"][1] * scale)
    np.testing.assert_array_equal(folded["bias"][1], plain["bias"][1] * scale)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("encoder.layer.0.mlp.fc2.bias"), r"lacks encoder\.layer\.0\.mlp\.fc2\.bias$"),
        (lambda t: t.clear() or t.update(other=np.zeros(3)), r"lacks embeddings\.cls_token.* and \d+ more$"),
        (
            lambda t: t.update({"embeddings.register_tokens": np.zeros((1, 4, WIDTH))}),
            r"has unexpected embeddings\.register_tokens$",
        ),
        (
            lambda t: t.update({"encoder.layer.1.norm1.weight": np.zeros(7)}),
            r"encoder\.layer\.1\.norm1\.weight has shape \[7\], must be \[32\]$",
        ),
    ],
)
def test_another_file_is_one_line(checkpoint, change, message):
    with pytest.raises(InputError, match=message) as caught:
        dinov2_image_tower(rewritten(checkpoint, change), 70, HEADS)
    assert "\n" not in str(caught.value) and str(checkpoint) in str(caught.value)


def test_a_torn_or_missing_file_is_one_line(checkpoint, tmp_path):
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    for path in (checkpoint, tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(InputError, match="cannot be read as safetensors") as caught:
            dinov2_image_tower(path, 70, HEADS)
        assert "\n" not in str(caught.value)


def test_heads_and_size_must_fit(checkpoint):
    with pytest.raises(InputError, match="width 32 does not divide into 5 heads"):
        dinov2_image_tower(checkpoint, 70, heads=5)
    with pytest.raises(InputError, match="size 71 is not a multiple of its patch 14"):
        dinov2_image_tower(checkpoint, 71, HEADS)
