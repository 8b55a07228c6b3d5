import numpy as np
import pytest
from safetensors.numpy import save_file

from lrsclip_jax.errors import InputError
from lrsclip_jax.pytorch import layout
from lrsclip_jax.pytorch.files.tensors import open_tensors
from lrsclip_jax.pytorch.layout import CONVOLUTION, IN_BATCH, TOKEN, Leaf

WIDTH, HEADS, LAYERS = 6, 3, 2
TABLE = [
    Leaf("image/patch_embedding/kernel", ("conv.weight",), CONVOLUTION),
    Leaf("image/class_embedding", ("cls",), TOKEN),
    Leaf("image/position_embedding", ("pos",), IN_BATCH),
    *layout.attention("image/blocks/attention", ["layers.{}.q", "layers.{}.k", "layers.{}.v"], "layers.{}.out"),
    *layout.attention("text/blocks/attention", ["text.{}.qkv"], "text.{}.out"),
    *layout.dense("text/blocks/mlp/fc1", "text.{}.fc1"),
    *layout.norm("text/final_norm", "text.norm"),
    Leaf("logit_scale", ("logit_scale",)),
]
ATTENTION = {
    "qkv/kernel": (LAYERS, WIDTH, 3, HEADS, WIDTH // HEADS),
    "qkv/bias": (LAYERS, 3, HEADS, WIDTH // HEADS),
    "out/kernel": (LAYERS, HEADS, WIDTH // HEADS, WIDTH),
    "out/bias": (LAYERS, WIDTH),
}
SHAPES = {
    "image/patch_embedding/kernel": (2, 2, 3, WIDTH),
    "image/class_embedding": (WIDTH,),
    "image/position_embedding": (5, WIDTH),
    "text/blocks/mlp/fc1/kernel": (LAYERS, WIDTH, 10),
    "text/blocks/mlp/fc1/bias": (LAYERS, 10),
    "text/final_norm/scale": (WIDTH,),
    "text/final_norm/bias": (WIDTH,),
    "logit_scale": (),
} | {f"{tower}/blocks/attention/{name}": shape for tower in ("image", "text") for name, shape in ATTENTION.items()}


def drawn() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {key: rng.normal(size=shape).astype(np.float32) for key, shape in layout.keys_of(TABLE, SHAPES).items()}


def opened(tmp_path, tensors):
    save_file(tensors, tmp_path / "some.safetensors")
    return open_tensors(tmp_path / "some.safetensors")


def test_both_layouts_compute_the_same():
    tensors = drawn()
    params = layout.to_ours(TABLE, SHAPES, tensors)
    x = np.random.default_rng(1).normal(size=(4, WIDTH)).astype(np.float32)
    attention = params["image"]["blocks"]["attention"]
    for layer in range(LAYERS):
        q, k, v = (
            np.einsum("nw,wphd->pnhd", x, attention["qkv"]["kernel"][layer]) + attention["qkv"]["bias"][layer][:, None]
        )
        for name, part in (("q", q), ("k", k), ("v", v)):
            theirs = x @ tensors[f"layers.{layer}.{name}.weight"].T + tensors[f"layers.{layer}.{name}.bias"]
            np.testing.assert_allclose(part.reshape(4, WIDTH), theirs, rtol=1e-5, atol=1e-6)
        fused = np.einsum("nw,wphd->nphd", x, params["text"]["blocks"]["attention"]["qkv"]["kernel"][layer])
        np.testing.assert_allclose(
            fused.reshape(4, -1), x @ tensors[f"text.{layer}.qkv.weight"].T, rtol=1e-5, atol=1e-6
        )
        heads = x.reshape(4, HEADS, -1)
        out = np.einsum("nhd,hdw->nw", heads, attention["out"]["kernel"][layer])
        np.testing.assert_allclose(out, x @ tensors[f"layers.{layer}.out.weight"].T, rtol=1e-5, atol=1e-6)
        hidden = x @ params["text"]["blocks"]["mlp"]["fc1"]["kernel"][layer]
        np.testing.assert_allclose(hidden, x @ tensors[f"text.{layer}.fc1.weight"].T, rtol=1e-5, atol=1e-6)
    kernel = params["image"]["patch_embedding"]["kernel"]
    np.testing.assert_array_equal(kernel[1, 0, 2], tensors["conv.weight"][:, 2, 1, 0])
    np.testing.assert_array_equal(params["image"]["position_embedding"], tensors["pos"][0])


def test_there_and_back_is_exact():
    tensors = drawn()
    back = layout.to_theirs(TABLE, layout.to_ours(TABLE, SHAPES, tensors))
    assert back.keys() == tensors.keys()
    for key, value in tensors.items():
        assert back[key].dtype == np.float32 and back[key].flags.c_contiguous
        np.testing.assert_array_equal(back[key], value, strict=True)


def test_halves_become_floats():
    tensors = {key: value.astype(np.float16) for key, value in drawn().items()}
    params = layout.to_ours(TABLE, SHAPES, tensors)
    assert params["logit_scale"].dtype == np.float32
    np.testing.assert_array_equal(params["image"]["class_embedding"], tensors["cls"][0, 0].astype(np.float32))


def test_a_whole_file_is_accepted(tmp_path):
    tensors = drawn() | {"logit_scale": np.ones(1, np.float32), "position_ids": np.arange(5)}
    layout.check(TABLE, SHAPES, opened(tmp_path, tensors), "a model", ["position_ids"])


def test_what_is_missing_and_unexpected_is_listed(tmp_path):
    tensors = {key: value for key, value in drawn().items() if not key.startswith("layers")} | {"head": np.zeros(1)}
    with pytest.raises(InputError) as error:
        layout.check(TABLE, SHAPES, opened(tmp_path, tensors), "a model")
    message = str(error.value)
    assert "some.safetensors is not a model: it lacks layers.0.k.bias, layers.0.k.weight, " in message
    assert message.count("layers.") == 10 and "and 6 more" in message and "has also head" in message


def test_shapes_that_do_not_belong_together_are_named(tmp_path):
    tensors = drawn() | {"layers.1.k.weight": np.zeros((WIDTH, WIDTH + 1), np.float32)}
    with pytest.raises(InputError, match=r"layers.1.k.weight has shape \[6, 7\], the other tensors want \[6, 6\]"):
        layout.check(TABLE, SHAPES, opened(tmp_path, tensors), "a model")
