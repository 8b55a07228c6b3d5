"""Rotary positions, registers and gated MLPs: DINOv3 of transformers beside our tower, and what depends on patches."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lrsclip_jax import fitting
from lrsclip_jax.convert.export import export
from lrsclip_jax.data.preprocessing import IMAGENET_PREPROCESSING
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import adapt_rules, adaptation, zoo
from lrsclip_jax.models.clip import init_params, unit
from lrsclip_jax.models.encoder_hash import encoder_hash
from lrsclip_jax.models.patches import patch_values
from lrsclip_jax.models.positions import rotary_angles
from lrsclip_jax.pytorch.contract import Hints
from lrsclip_jax.pytorch.families import dinov2, dinov3
from lrsclip_jax.pytorch.read import read

GATED = {"num_register_tokens": 4, "use_gated_mlp": True, "hidden_act": "silu"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of a DINOv3 with registers and gated MLPs, and of one without both, beside their models."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 32}
    found = {}
    for name, fields in (("gated", GATED), ("plain", {})):
        config = transformers.DINOv3ViTConfig(**sizes, **fields, image_size=32, patch_size=8)
        model, folder = transformers.DINOv3ViTModel(config).eval(), tmp_path_factory.mktemp(name)
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, 0.4)
        model.save_pretrained(folder)
        found[name] = folder, model
    return found


def images(size, number=2):
    return np.random.default_rng(1).normal(size=(number, size, size, 3)).astype(np.float32)


def tokens(found, x, **fields):
    tower = zoo.create("tiny", image=found.image | {"size": x.shape[1]} | fields).image
    return jax.jit(lambda params, x: tower.apply({"params": params}, x, method=lambda v, x: v.post_norm(v.hidden(x))))(
        found.params["image"], x
    )


@pytest.mark.parametrize(("name", "size"), [("gated", 32), ("gated", 56), ("plain", 32)])
def test_every_token_is_transformers_at_the_trained_size_and_at_another(saved, name, size):
    torch = pytest.importorskip("torch")
    folder, reference = saved[name]
    found, x = read(str(folder)), images(size)
    with torch.no_grad():
        expected = reference(torch.from_numpy(x).permute(0, 3, 1, 2)).last_hidden_state.numpy()
    assert np.abs(np.diff(expected[:, 0], axis=0)).max() > 0.05
    np.testing.assert_allclose(tokens(found, x), expected, atol=1e-5, rtol=0)
    padded = tokens(found, x, token_multiple=16, unroll=2, remat="full")
    np.testing.assert_allclose(padded, expected, atol=1e-5, rtol=0)


def test_registers_of_dinov2_stand_between_class_token_and_patches(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "mlp_ratio": 2}
    config = transformers.Dinov2WithRegistersConfig(**sizes, image_size=32, patch_size=8)
    torch.manual_seed(0)
    reference = transformers.Dinov2WithRegistersModel(config).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.normal_(0, 0.4)
    reference.save_pretrained(tmp_path)
    found = read(str(tmp_path))
    assert found.family == dinov2.FAMILY and found.image["registers"] == 4
    for size in (32, 24):
        with torch.no_grad():
            expected = reference(torch.from_numpy(images(size)).permute(0, 3, 1, 2)).last_hidden_state.numpy()
        np.testing.assert_allclose(tokens(fitting.of_size(found, size), images(size)), expected, atol=1e-5, rtol=0)


def authors_names(tensors):
    """The same under the key names of github.com/facebookresearch/dinov3: q, k and v in one layer, and a mask."""
    names = {"embeddings.patch_embeddings": "patch_embed.proj", "embeddings.cls_token": "cls_token"}
    names |= {"embeddings.register_tokens": "storage_tokens", "embeddings.mask_token": "mask_token"}
    names |= {"attention.o_proj": "attn.proj", "layer_scale1.lambda1": "ls1.gamma", "layer_scale2.lambda1": "ls2.gamma"}
    names |= {"mlp.gate_proj": "mlp.w1", "mlp.up_proj": "mlp.w2", "mlp.down_proj": "mlp.w3", "layer.": "blocks."}
    named = {}
    for key, value in tensors.items():
        for old, new in names.items():
            key = key.replace(old, new)
        named[key] = value
    for layer in range(2):
        qkv = f"blocks.{layer}.attn.qkv"
        parts = [f"blocks.{layer}.attention.{part}_proj" for part in "qkv"]
        named[f"{qkv}.weight"] = np.concatenate([named.pop(f"{part}.weight") for part in parts])
        q, v = (named.pop(f"{parts[index]}.bias") for index in (0, 2))
        named[f"{qkv}.bias"] = np.concatenate([q, np.full_like(q, 7), v])
        named[f"{qkv}.bias_mask"] = np.concatenate([np.ones_like(q), np.zeros_like(q), np.ones_like(q)])
    return named | {"rope_embed.periods": np.array([1, 9.97], np.float32)}


def test_its_authors_names_are_the_same_model(saved, tmp_path):
    folder, _ = saved["gated"]
    expected = read(str(folder))
    path = tmp_path / "dinov3_vitl16_pretrain_sat493m-eadcf0ff.safetensors"
    named = authors_names(load_file(folder / "model.safetensors"))
    save_file(named, path)
    found = read(str(path))
    np.testing.assert_equal(found.params, expected.params)
    assert found.image == expected.image | {"size": 224} and found.reasons["image.heads"] == "rope_embed.periods"
    assert found.preprocessing.mean == (0.430, 0.411, 0.296) and found.preprocessing.size == 224
    save_file(named | {"rope_embed.periods": np.array([1, 5], np.float32)}, path)
    with pytest.raises(InputError, match="rope_embed.periods are not those of a base of 100"):
        read(str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("layer.1.mlp.up_proj.bias"), r"it lacks layer\.1\.mlp\.up_proj\.bias$"),
        (lambda t: t.update({"local_cls_norm.weight": np.ones(24)}), r"has also local_cls_norm\.weight$"),
        (lambda t: t.update({"embeddings.register_tokens": np.ones((1, 4, 8))}), r"want \[1, 4, 24\]"),
    ],
)
def test_other_layers_are_one_line(saved, tmp_path, change, message):
    tensors = load_file(saved["gated"][0] / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=message):
        read(str(tmp_path), Hints(image_heads=3))
    with pytest.raises(InputError, match="image heads at width 24: say"):
        read(str(tmp_path))


def test_angles_are_those_of_the_paper():
    angles = rotary_angles(4, 8, 100.0)
    assert angles.shape == (16, 4) and angles.dtype == np.float32
    # Row 1, column 3: centres -0.25 and 0.75, frequencies 1 and 0.1.
    np.testing.assert_allclose(angles[7], 2 * np.pi * np.array([-0.25, -0.025, 0.75, 0.075]), rtol=1e-6)


@pytest.fixture(scope="module")
def model():
    fields = {"size": 32, "layers": 2, "registers": 2, "rotary_base": 100.0, "gated": True, "activation": "silu"}
    clip = zoo.create("tiny", image=fields, text={"vocab_size": 100, "end_token": 99})
    return clip, random_like(clip, 0)


def random_like(clip, seed):
    """Parameters that are all random, small, as numpy arrays."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: init_params(clip, jax.random.key(0)))
    return jax.tree.map(lambda leaf: rng.normal(0, 0.15, leaf.shape).astype(np.float32), shapes)


def test_there_is_no_table_and_the_size_is_free(model):
    clip, params = model
    assert "position_embedding" not in params["image"] and params["image"]["register_embedding"].shape == (2, 64)
    assert encoder_hash(clip.image, params["image"]) != encoder_hash(
        clip.image.clone(rotary_base=50.0), params["image"]
    )
    other = clip.image.clone(size=48)
    rows = jax.jit(lambda params, x: patch_values(other, params, x))(params["image"], images(48))
    assert rows.shape == (2, 36, 64)
    np.testing.assert_allclose(jnp.linalg.norm(rows, axis=-1), 1, atol=1e-5)


def test_patches_keep_their_places_where_others_are_dropped(model):
    clip, params = model
    order = jax.random.permutation(jax.random.key(2), 16)
    kept = jnp.stack([order, order[::-1]])

    @jax.jit
    def encode(kept):
        return clip.apply({"params": params}, images(32), kept=kept, method="encode_image")

    rows, some = encode(kept), encode(kept[:, :5])
    np.testing.assert_allclose(rows, encode(None), atol=1e-5)
    assert some.shape == rows.shape and np.abs(some - rows).max() > 1e-3


@pytest.mark.exhaustive
def test_adapters_and_gradients_are_those_of_any_tower(model):
    clip, params = model
    adapt = adapt_rules.resolved([("image/.*", "lora", 2)])["image"]
    adapted = clip.clone(image=clip.image.clone(adapt=adapt))
    blocks = random_like(adapted, 1)["image"]["blocks"]
    merged = adaptation.merged(blocks, adapt)

    @functools.partial(jax.jit, static_argnums=0)
    def row(tower, blocks):
        return tower.apply({"params": params["image"] | {"blocks": blocks}}, images(32))

    np.testing.assert_allclose(row(adapted.image, blocks), row(clip.image, merged), atol=1e-5, rtol=1e-5)

    def gradient(**how):
        tower = clip.image.clone(**how)
        return jax.jit(jax.grad(lambda blocks: jnp.sum(jnp.sin(row(tower, blocks)))))(params["image"]["blocks"])

    plain = gradient(remat="none")
    assert float(jnp.abs(plain["mlp"]["gate"]["kernel"]).max()) > 1e-4
    for other in (gradient(remat="names:qkv,mlp_hidden"), gradient(token_multiple=8)):
        for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5 * float(jnp.abs(a).max()))


@pytest.mark.parametrize("text", [pytest.param("bert", marks=pytest.mark.slow), "clip"])
def test_a_dual_encoder_of_transformers_says_what_it_computes(tmp_path, text):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    image = {"size": 32, "layers": 1, "registers": 2, "rotary_base": 100.0, "gated": True, "activation": "silu"}
    image |= {"patch_bias": True, "pre_norm": False}
    clip = zoo.create("tiny_bert" if text == "bert" else "tiny", image=image, text={"layers": 1})
    params = random_like(clip, 0)
    pixels = dataclasses.replace(IMAGENET_PREPROCESSING, size=32)
    export(clip, params, pixels, format="hf", out=tmp_path / "out", source="a test")
    found = read(str(tmp_path / "out"))
    np.testing.assert_equal(found.params, params)
    assert found.image == zoo.fields(clip)[0]
    reference = transformers.AutoModel.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        expected = reference.get_image_features(torch.from_numpy(images(32)).permute(0, 3, 1, 2)).pooler_output
    rows = jax.jit(lambda params, x: clip.image.apply({"params": params}, x))(params["image"], images(32))
    np.testing.assert_allclose(unit(rows), torch.nn.functional.normalize(expected, dim=-1), atol=1e-5)


@pytest.mark.parametrize("format", ["hf", "open_clip", "longclip"])
def test_other_towers_with_these_parts_are_refused(model, tmp_path, format):
    clip, params = model
    out = tmp_path / ("out" if format in ("hf", "open_clip") else "out.safetensors")
    with pytest.raises(InputError, match=rf"--format={format}.*(rotary positions|registers)"):
        export(clip, params, IMAGENET_PREPROCESSING, format=format, out=out, source="a test")
    assert not out.exists()


def test_heads_that_no_rotation_fits_are_refused():
    clip = zoo.create("tiny", image={"rotary_base": 100.0, "width": 60, "heads": 10})
    with pytest.raises(InputError, match="heads of a width that 4 divides, here it is 6"):
        init_params(clip, jax.random.key(0))


def test_a_weight_of_another_position_is_named(saved):
    found = read(str(saved["plain"][0]))
    clip = zoo.create("tiny", image=found.image | {"rotary_base": None})
    with pytest.raises(InputError, match="rotary_base 100.0 .config.json., the model None"):
        fitting.fitted_tower(clip, "image", found, "dinov3", {})
    assert dinov3.FAMILY == found.family
