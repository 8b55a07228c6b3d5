import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lrsclip_jax import config as configs
from lrsclip_jax.data.images import CLIP_PREPROCESSING, IMAGENET_PREPROCESSING
from lrsclip_jax.errors import InputError
from lrsclip_jax.models.positions import resize_positions, stretch_positions
from lrsclip_jax.weights import build_model, initial_parameters

WIDTH, LAYERS, PATCH = 64, 2, 16


def tower(prefix: str, rng) -> dict[str, np.ndarray]:
    tensors = {}
    for layer in range(LAYERS):
        block = f"{prefix}.encoder.layers.{layer}"
        shapes = {f"self_attn.{part}_proj": (WIDTH, WIDTH) for part in ("q", "k", "v", "out")}
        shapes |= {"mlp.fc1": (4 * WIDTH, WIDTH), "mlp.fc2": (WIDTH, 4 * WIDTH)}
        for name, shape in shapes.items():
            tensors |= {
                f"{block}.{name}.weight": rng.normal(size=shape),
                f"{block}.{name}.bias": rng.normal(size=shape[0]),
            }
        for name in ("layer_norm1", "layer_norm2"):
            tensors |= {f"{block}.{name}.{part}": rng.normal(size=WIDTH) for part in ("weight", "bias")}
    return tensors


@pytest.fixture
def folder(tmp_path):
    """A Hugging Face CLIPModel folder of the zoo's `tiny`, with 77 text positions and a 4×4 image grid."""
    rng = np.random.default_rng(0)
    tensors = tower("vision_model", rng) | tower("text_model", rng)
    tensors |= {
        "vision_model.embeddings.class_embedding": rng.normal(size=WIDTH),
        "vision_model.embeddings.patch_embedding.weight": rng.normal(size=(WIDTH, 3, PATCH, PATCH)),
        "vision_model.embeddings.position_embedding.weight": rng.normal(size=(17, WIDTH)),
        "text_model.embeddings.token_embedding.weight": rng.normal(size=(49408, WIDTH)),
        "text_model.embeddings.position_embedding.weight": rng.normal(size=(77, WIDTH)),
        "visual_projection.weight": rng.normal(size=(WIDTH, WIDTH)),
        "text_projection.weight": rng.normal(size=(WIDTH, WIDTH)),
        "logit_scale": np.array(4.6),
    }
    for norm in ("vision_model.pre_layrnorm", "vision_model.post_layernorm", "text_model.final_layer_norm"):
        tensors |= {f"{norm}.{part}": rng.normal(size=WIDTH) for part in ("weight", "bias")}
    save_file(
        {key: np.ascontiguousarray(value, np.float32) for key, value in tensors.items()}, tmp_path / "model.safetensors"
    )
    towers = {f"{kind}_config": {"num_attention_heads": 2} for kind in ("vision", "text")}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip", **towers}))
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"size": {"shortest_edge": 64}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]})
    )
    return tmp_path


def load(*overrides: str):
    config = configs.load("configs/quickstart.py", [f"model.image.patch={PATCH}", *overrides])
    return initial_parameters(build_model(config), config)


def test_a_hugging_face_folder_is_stretched_to_248_positions(folder):
    params, preprocessing = load(f"model.init={folder}")
    tensors = load_file(folder / "model.safetensors")
    table = tensors["text_model.embeddings.position_embedding.weight"]
    np.testing.assert_array_equal(params["text"]["position_embedding"], stretch_positions(table))
    np.testing.assert_array_equal(params["text"]["projection"]["kernel"], tensors["text_projection.weight"].T)
    query = np.asarray(params["image"]["blocks"]["attention"]["qkv"]["kernel"])[1, :, 0].reshape(WIDTH, WIDTH)
    np.testing.assert_array_equal(query, tensors["vision_model.encoder.layers.1.self_attn.q_proj.weight"].T)
    assert params["logit_scale"] == np.float32(4.6)
    assert (preprocessing.size, preprocessing.mean) == (64, (0.5, 0.4, 0.3))


def test_position_tables_follow_the_model(folder):
    params, preprocessing = load(f"model.init={folder}", "model.image.size=96", "model.text.context_length=40")
    tensors = load_file(folder / "model.safetensors")
    image = tensors["vision_model.embeddings.position_embedding.weight"]
    np.testing.assert_array_equal(params["image"]["position_embedding"], resize_positions(image, 6, antialias=True))
    text = tensors["text_model.embeddings.position_embedding.weight"]
    np.testing.assert_array_equal(params["text"]["position_embedding"], text[:40])
    assert preprocessing.size == 96


def test_an_image_tower_of_its_own(folder):
    params, preprocessing = load("model.init=random", f"model.image_init={folder}")
    random, usual = load("model.init=random")
    text = jax.tree.map(np.array_equal, params["text"], random["text"])
    assert all(jax.tree.leaves(text))
    assert not np.array_equal(params["image"]["class_embedding"], random["image"]["class_embedding"])
    assert (
        preprocessing.mean == (0.5, 0.4, 0.3) and usual.mean == CLIP_PREPROCESSING.mean != IMAGENET_PREPROCESSING.mean
    )


def test_seeds_draw_different_parameters():
    first, again, other = (load("model.init=random", f"seed={seed}")[0] for seed in (0, 0, 1))
    assert np.array_equal(first["image"]["class_embedding"], again["image"]["class_embedding"])
    assert not np.array_equal(first["image"]["class_embedding"], other["image"]["class_embedding"])


@pytest.mark.parametrize(
    ("spoil", "overrides", "message"),
    [
        (None, ["model.text.width=32"], "text/.* is .*, the model's is .*; another model.name"),
        (None, ["model.image.layers=3"], "image/blocks/.* is .*, the model's is"),
        (lambda f: (f / "config.json").unlink(), [], "config.json can't be read"),
        (lambda f: (f / "config.json").write_text('{"model_type": "siglip"}'), [], "model_type is 'siglip'"),
        (lambda f: (f / "model.safetensors").write_bytes(b"torn"), [], "model.safetensors can't be read"),
        (
            lambda f: (f / "preprocessor_config.json").write_text("{}"),
            [],
            "preprocessor_config.json: image_mean is missing",
        ),
        (lambda f: save_file({"a": np.ones(1)}, f / "model.safetensors"), [], "not a whole CLIPModel, .* is missing"),
    ],
)
def test_bad_weights_are_one_clear_line(folder, spoil, overrides, message):
    if spoil:
        spoil(folder)
    with pytest.raises(InputError, match=message) as error:
        load(f"model.init={folder}", *overrides)
    assert "\n" not in str(error.value)
