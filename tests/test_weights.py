import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lrsclip_jax import config as configs
from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING, IMAGENET_PREPROCESSING
from lrsclip_jax.data.tokenizer import clip_tokenizer
from lrsclip_jax.errors import InputError
from lrsclip_jax.models.positions import resize_positions, stretch_positions
from lrsclip_jax.run import checkpoint, workdir
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
        json.dumps({"size": 64, "crop_size": 64, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]})
    )
    return tmp_path


def load(*overrides: str):
    config = configs.load("configs/quickstart.py", [f"model.image.patch={PATCH}", "data.long_length=32", *overrides])
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


@pytest.mark.slow
@pytest.mark.parametrize(("keep", "ratio"), [(0, None), (30, None), (30, 6), (20, None)])
def test_the_config_says_how_positions_are_stretched(folder, keep, ratio):
    """Row k of a table that keeps K rows is the old table read at K + (k − K)/ratio, beyond its end on a line."""
    params, _ = load(f"model.init={folder}", f"model.text.keep={keep}", f"model.text.ratio={ratio}")
    old = load_file(folder / "model.safetensors")["text_model.embeddings.position_embedding.weight"].astype(float)
    old = np.concatenate([old, 2 * old[-1:] - old[-2:-1]])
    ratio = ratio or {0: 4, 20: 4, 30: 5}[keep]
    where = [k if k < keep else keep + (k - keep) / ratio for k in range(248)]
    twin = np.stack([np.interp(where, np.arange(78), column) for column in old.T], axis=1)
    np.testing.assert_allclose(params["text"]["position_embedding"], twin, atol=1e-6)


def test_stretching_that_does_not_fit_the_table_names_the_keys(folder):
    with pytest.raises(
        InputError, match=rf"{folder}: cannot keep 77 of 77 .*\(model.text.keep=77, model.text.ratio=None"
    ):
        load(f"model.init={folder}", "model.text.keep=77")
    with pytest.raises(InputError, match="ratio 2, fewer than 248: the ratio must be 4 or more"):
        load(f"model.init={folder}", "model.text.ratio=2")
    load(f"model.init={folder}", "model.text.keep=77", "model.text.context_length=77")  # nothing is stretched


def test_position_tables_follow_the_model(folder):
    params, preprocessing = load(f"model.init={folder}", "model.image.size=96", "model.text.context_length=40")
    tensors = load_file(folder / "model.safetensors")
    image = tensors["vision_model.embeddings.position_embedding.weight"]
    np.testing.assert_array_equal(params["image"]["position_embedding"], resize_positions(image, 6, antialias=True))
    text = tensors["text_model.embeddings.position_embedding.weight"]
    np.testing.assert_array_equal(params["text"]["position_embedding"], text[:40])
    assert preprocessing.size == 96


@pytest.mark.slow
def test_an_image_tower_of_its_own(folder):
    params, preprocessing = load("model.init=random", f"model.image_init={folder}")
    random, usual = load("model.init=random")
    text = jax.tree.map(np.array_equal, params["text"], random["text"])
    assert all(jax.tree.leaves(text))
    assert not np.array_equal(params["image"]["class_embedding"], random["image"]["class_embedding"])
    assert (
        preprocessing.mean == (0.5, 0.4, 0.3) and usual.mean == CLIP_PREPROCESSING.mean != IMAGENET_PREPROCESSING.mean
    )


@pytest.mark.exhaustive
def test_seeds_draw_different_parameters():
    first, again, other = (load("model.init=random", f"seed={seed}")[0] for seed in (0, 0, 1))
    assert np.array_equal(first["image"]["class_embedding"], again["image"]["class_embedding"])
    assert not np.array_equal(first["image"]["class_embedding"], other["image"]["class_embedding"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "overrides", "message"),
    [
        (
            None,
            ["model.text.width=32"],
            "its text tower has width 64, mlp_width 256, the model 32, 128; another model.name",
        ),
        (None, ["model.image.layers=3"], "its image tower has layers 2, the model 3"),
        (
            None,
            ["model.text.activation=gelu"],
            r"has activation quick_gelu \(.*config.json.*\), the model gelu; .* or --config",
        ),
        (None, ["model.image.embed_dim=32", "model.text.embed_dim=32"], r"is \[64, 64\], the model's \[64, 32\]"),
        (None, ["model.image.heads=4"], r"has heads 2 \(.*config.json.*\), the model 4"),
        (None, ["model.text.kind=bert"], "has kind transformer, the model bert"),
        (lambda f: (f / "config.json").unlink(), [], "a CLIPModel comes with a config.json"),
        (lambda f: (f / "config.json").write_text('{"model_type": "siglip"}'), [], "model_type 'siglip'"),
        (lambda f: (f / "model.safetensors").write_bytes(b"torn"), [], "model.safetensors can't be read"),
        (lambda f: save_file({"a": np.ones(1)}, f / "model.safetensors"), [], "is a checkpoint of no known family"),
    ],
)
def test_bad_weights_are_one_clear_line(folder, spoil, overrides, message):
    if spoil:
        spoil(folder)
    with pytest.raises(InputError, match=message) as error:
        load(f"model.init={folder}", *overrides)
    assert "\n" not in str(error.value)


@pytest.fixture
def bert(tmp_path):
    """A BERT of 90 positions, of the zoo's `tiny_bert` otherwise, as Hugging Face saves it."""
    rng = np.random.default_rng(1)
    shapes = {
        "embeddings.word_embeddings.weight": (30522, WIDTH),
        "embeddings.position_embeddings.weight": (90, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "pooler.dense.weight": (WIDTH, WIDTH),
        "pooler.dense.bias": (WIDTH,),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(LAYERS):
        block = f"encoder.layer.{layer}"
        attention = [f"attention.{name}" for name in ("self.query", "self.key", "self.value", "output.dense")]
        sizes = dict.fromkeys(attention, (WIDTH, WIDTH))
        sizes |= {"intermediate.dense": (4 * WIDTH, WIDTH), "output.dense": (WIDTH, 4 * WIDTH)}
        for name, shape in sizes.items():
            shapes |= {f"{block}.{name}.weight": shape, f"{block}.{name}.bias": shape[:1]}
        norms += [f"{block}.attention.output.LayerNorm", f"{block}.output.LayerNorm"]
    shapes |= {f"{norm}.{part}": (WIDTH,) for norm in norms for part in ("weight", "bias")}
    folder = tmp_path / "bert"
    folder.mkdir()
    tensors = {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "num_attention_heads": 2}))
    return folder


@pytest.mark.exhaustive
def test_a_text_tower_of_its_own(bert):
    """BERT's table gives its first rows, or its first 77 stretched; its pooler serves one pooling of two."""
    tensors = load_file(bert / "model.safetensors")
    table = tensors["embeddings.position_embeddings.weight"]
    sources = ["model.name=tiny_bert", "model.init=random", f"model.text_init={bert}"]
    params, _ = load(*sources, "model.text.context_length=50")
    np.testing.assert_array_equal(params["text"]["position_embedding"], table[:50])
    np.testing.assert_array_equal(params["text"]["pooler"]["kernel"], tensors["pooler.dense.weight"].T)
    random, _ = load("model.name=tiny_bert", "model.init=random", "model.text.context_length=50")
    np.testing.assert_array_equal(params["text"]["projection"]["kernel"], random["text"]["projection"]["kernel"])
    np.testing.assert_array_equal(params["image"]["class_embedding"], random["image"]["class_embedding"])
    params, _ = load(*sources, "model.text.positions=stretched", "model.text.pool=cls")
    np.testing.assert_array_equal(params["text"]["position_embedding"], stretch_positions(table[:77]))
    assert "pooler" not in params["text"]
    with pytest.raises(InputError, match=r"text/position_embedding is \[90, 64\], the model's \[248, 64\]"):
        load(*sources)


@pytest.mark.slow
def test_a_bert_without_pooler(bert):
    tensors = load_file(bert / "model.safetensors")
    save_file({key: value for key, value in tensors.items() if "pooler" not in key}, bert / "model.safetensors")
    sources = ["model.name=tiny_bert", "model.init=random", f"model.text_init={bert}", "model.text.context_length=50"]
    with pytest.raises(InputError, match="has no text/pooler/.*; --config.model.text.pool=cls needs none"):
        load(*sources)
    load(*sources, "model.text.pool=cls")


def test_one_tower_is_no_model(bert):
    with pytest.raises(InputError, match="lacks an image tower and the text tower's projection"):
        load("model.name=tiny_bert", f"model.init={bert}")
    with pytest.raises(InputError, match=r"\(BERT\) has no image tower"):
        load("model.name=tiny_bert", "model.init=random", f"model.image_init={bert}")


def test_weights_alone_are_a_source(folder, tmp_path):
    """What `checkpoint.write` made is read like a run, and is no run to continue."""
    config = configs.load("configs/quickstart.py", [f"model.image.patch={PATCH}", f"model.init={folder}"])
    params, preprocessing = initial_parameters(build_model(config), config)
    about = checkpoint.metadata(config, preprocessing, clip_tokenizer())
    run = workdir.new(str(tmp_path / "run"))
    workdir.write_config(run, config)
    checkpoint.write(run, params, about)
    again, kept = load(f"model.init={run}")
    assert kept == preprocessing
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, again, params)))
    with pytest.raises(InputError, match="holds something already, and nothing is overwritten"):
        workdir.new(str(run))
