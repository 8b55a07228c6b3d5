import importlib
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_clip
from PIL import Image
from scipy.special import erf

import lrsclip_jax
from lrsclip_jax.errors import InputError
from lrsclip_jax.localise.heatmap import NEUTRAL, heat, patch_encoder, text_directions
from lrsclip_jax.models.patches import patch_values
from lrsclip_jax.models.positions import resize_positions

LAYOUTS = {
    "CLIP": {"layers": 3},
    "DINOv2": {"layers": 3, "activation": "gelu", "norm_eps": 1e-6, "patch_bias": True, "pre_norm": False},
    "one block, two heads": {"layers": 1, "heads": 2, "pool": "mean"},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "clip"
    tiny_clip.clip_folder(folder, tiny_clip.model(image={"layers": 2}))
    return lrsclip_jax.load(folder, batch_size=4)


def norm(x, params, eps):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * params["scale"] + params["bias"]


def twin(tower, params, images):
    """The value path in float64, head by head and token by token as in the papers, from the whole tower's weights."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    gelu = {"gelu": lambda x: x * (1 + erf(x / 2**0.5)) / 2, "quick_gelu": lambda x: x / (1 + np.exp(-1.702 * x))}
    size, side = tower.patch, images.shape[1] // tower.patch
    head = tower.width // tower.heads
    rows = []
    for image in images:
        tokens = [p["class_embedding"]]
        for y, x in np.ndindex(side, side):
            square = image[y * size : (y + 1) * size, x * size : (x + 1) * size]
            tokens.append(np.tensordot(square, p["patch_embedding"]["kernel"], 3) + p["patch_embedding"].get("bias", 0))
        x = np.stack(tokens) + p["position_embedding"]
        x = norm(x, p["pre_norm"], tower.norm_eps) if tower.pre_norm else x
        for layer in range(tower.layers):
            block = jax.tree.map(lambda leaf, layer=layer: leaf[layer], p["blocks"])
            qkv, out = block["attention"]["qkv"], block["attention"]["out"]
            normed = norm(x, block["norm1"], tower.norm_eps)
            mixed, alone = out["bias"], out["bias"]
            for h in range(tower.heads):
                q, k, v = (normed @ qkv["kernel"][:, i, h] + qkv["bias"][i, h] for i in range(3))
                weights = np.exp(q @ k.T / head**0.5)
                mixed = mixed + weights / weights.sum(axis=1, keepdims=True) @ v @ out["kernel"][h]
                alone = alone + v @ out["kernel"][h]
            x = x + mixed
            mlp = norm(x, block["norm2"], tower.norm_eps) @ block["mlp"]["fc1"]["kernel"] + block["mlp"]["fc1"]["bias"]
            x = x + gelu[tower.activation](mlp) @ block["mlp"]["fc2"]["kernel"] + block["mlp"]["fc2"]["bias"]
        value = norm(alone[1:], p["post_norm"], tower.norm_eps) @ p["projection"]["kernel"]
        rows.append(value / np.linalg.norm(value, axis=1, keepdims=True))
    return np.stack(rows)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_are_those_of_the_last_block(layout):
    clip = tiny_clip.model(image=LAYOUTS[layout])
    params = tiny_clip.parameters(clip, seed=3)["image"]
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    found = np.asarray(jax.jit(lambda params, images: patch_values(clip.image, params, images))(params, images))
    assert found.shape == (2, 4, 16) and found.dtype == np.float32
    expected = twin(clip.image, params, images)
    assert np.ptp(expected, axis=1).max() > 0.05  # patches differ: a wrong order would show
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_at_another_size_positions_are_resized(model):
    pixels = np.random.default_rng(1).integers(0, 256, (3, 50, 60, 3), np.uint8)
    encode = patch_encoder(model, size=48, batch_size=2)
    found = encode(pixels)
    assert found.shape == (3, 3, 3, 16)
    params = jax.tree.map(np.asarray, model.params["image"])
    params["position_embedding"] = resize_positions(params["position_embedding"], 3, antialias=False)
    seen = [np.asarray(Image.fromarray(image).resize((57, 48), Image.Resampling.BICUBIC))[:, 4:52] for image in pixels]
    values = (np.stack(seen) / 255 - tiny_clip.PREPROCESSING.mean) / tiny_clip.PREPROCESSING.std
    np.testing.assert_allclose(found.reshape(3, 9, 16), twin(model.clip.image, params, values), atol=1e-5, rtol=0)


def test_without_a_size_there_are_24_patches(model):
    assert patch_encoder(model, batch_size=1)([np.zeros((40, 40, 3), np.uint8)]).shape == (1, 24, 24, 16)


@pytest.mark.parametrize("size", [8, 40])
def test_a_size_is_a_multiple_of_the_patch(model, size):
    with pytest.raises(InputError, match=rf"heat maps at {size} pixels: .* multiple of the tower's patch, 16"):
        patch_encoder(model, size)


def test_heat_is_the_cosine_less_the_mean_over_neutral_texts(model):
    texts = ["a white plane", "two harbours"]
    patches = np.random.default_rng(2).normal(size=(3, 2, 2, 16)).astype(np.float32)
    found = heat(patches, text_directions(model, texts))
    assert found.shape == (3, 2, 2, 2)
    cosines, neutral = (np.einsum("nyxe,te->ntyx", patches, model.texts(said)) for said in (texts, NEUTRAL))
    np.testing.assert_allclose(found, cosines - neutral.mean(axis=1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(heat(patches, text_directions(model, texts, [])), cosines, atol=1e-5)


def test_what_all_texts_share_changes_no_heat():
    class Shifted:
        def __init__(self, shift):
            self.shift = shift

        def texts(self, texts):
            return np.stack([np.array([len(text), text.count("a"), 1.0]) + self.shift for text in texts])

    texts = ["a plane", "a harbour at a coast"]
    plain, shifted = (text_directions(Shifted(shift), texts) for shift in (0.0, np.array([3.0, -1.0, 7.0])))
    np.testing.assert_allclose(shifted, plain, atol=1e-12)
    assert np.abs(text_directions(Shifted(3.0), texts, []) - text_directions(Shifted(0.0), texts, [])).min() == 3


def test_the_benchmark_counts_the_tile_of_the_hottest_patch(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    heatmaps = importlib.import_module("benchmarks.heatmaps")
    heats = np.zeros((4, 5, 5))  # the middle patch's middle lies at 2.5 of 5: in the second half
    for text, place in enumerate([(0, 1), (1, 4), (2, 0), (4, 4)]):
        heats[text][place] = 1
    assert heatmaps.hottest_tile(heats).tolist() == [0, 1, 2, 3]
    assert heatmaps.hottest_tile(np.roll(heats, 1, axis=0)).tolist() == [3, 0, 1, 2]
