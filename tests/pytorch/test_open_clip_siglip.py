"""open_clip's files of SigLIPs: transformers computes the same of the same weights, and what does not fit is named."""

import json
import shutil
import warnings
from dataclasses import replace

import numpy as np
import open_clip_names
import pytest
import tiny_siglip
from PIL import Image
from safetensors.numpy import load_file, save_file

import lrsclip_jax
from lrsclip_jax import weights
from lrsclip_jax.convert.__main__ import main
from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING
from lrsclip_jax.errors import InputError
from lrsclip_jax.pytorch import read as pytorch
from lrsclip_jax.pytorch.contract import Hints
from lrsclip_jax.pytorch.families import open_clip_siglip

HINTS = Hints(image_heads=2)  # of a width that timm has not
TANH, EXACT = ("vit_base_patch32_siglip_256", {"approximate": "tanh"}), ("vit_base_patch16_siglip_224", None)
TEXTS = ["A Harbour!", "", "there are 3 airplanes at the airport, next to a long runway, ships, boats and trees"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """SiglipModel folders, and the same as open_clip's."""
    folder = tmp_path_factory.mktemp("open_clip")
    for kind in ("siglip", "siglip2"):
        tiny_siglip.siglip_folder(folder / kind, kind)
        open_clip_names.write(folder / kind, folder / f"{kind}_open_clip", *TANH)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made / "siglip_open_clip", tmp_path / "model")


def edited(folder, part=None, **values):
    path = folder / "open_clip_config.json"
    said = json.loads(path.read_text())
    where = said if part == "preprocess_cfg" else said["model_cfg"]
    target = where[part] if part else where
    target |= values
    for key in [key for key, value in target.items() if value is None]:
        del target[key]
    path.write_text(json.dumps(said))


@pytest.mark.parametrize(
    ("kind", "trunk", "act_kwargs", "hidden_act"),
    [
        ("siglip", *EXACT, "gelu"),
        ("siglip2", *TANH, "gelu_pytorch_tanh"),
    ],
)
def test_equals_transformers_from_files_and_strings_to_logits(made, tmp_path, kind, trunk, act_kwargs, hidden_act):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    theirs = shutil.copytree(made / kind, tmp_path / "theirs")
    config = json.loads((theirs / "config.json").read_text())
    for tower in ("vision_config", "text_config"):
        config[tower]["hidden_act"] = hidden_act
    (theirs / "config.json").write_text(json.dumps(config))
    open_clip_names.write(theirs, tmp_path / "open_clip", trunk, act_kwargs)

    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in ((32, 32), (50, 81))]
    reference = transformers.SiglipModel.from_pretrained(theirs).eval()
    processor = transformers.AutoProcessor.from_pretrained(theirs, backend="pil")
    inputs = processor(text=TEXTS, images=images, padding="max_length", truncation=True, return_tensors="pt")
    with torch.inference_mode():
        expected = reference(**inputs)
    ours = lrsclip_jax.load(tmp_path / "open_clip", dtype="float32", image_heads=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a text was cut
        np.testing.assert_array_equal(ours.tokenize(TEXTS), inputs["input_ids"])
        rows, texts = ours.images(images), ours.texts(TEXTS)
    for found, theirs in ((rows, expected.image_embeds), (texts, expected.text_embeds)):
        np.testing.assert_allclose(found, theirs, atol=1e-6, rtol=0)
    logits = ours.logit_scale * texts @ rows.T + ours.logit_bias
    np.testing.assert_allclose(logits, expected.logits_per_text, atol=1e-6, rtol=0)


def test_every_tensor_comes_back_bit_by_bit_under_both_names(made, folder, tmp_path):
    tensors = load_file(folder / "open_clip_model.safetensors")
    found = pytorch.read(str(folder), HINTS)
    back = open_clip_siglip.layout.to_theirs(open_clip_siglip.table(), found.params)
    assert back.keys() == tensors.keys()
    main(["import", str(folder), f"--workdir={tmp_path / 'run'}", "--image-heads=2"])
    main(["export", str(tmp_path / "run"), "--format=hf", f"--out={tmp_path / 'hf'}"])
    exported, first = (load_file(path / "model.safetensors") for path in (tmp_path / "hf", made / "siglip"))
    for left, right in ((back, tensors), (exported, first)):
        for key in right:
            np.testing.assert_array_equal(left[key], right[key], strict=True, err_msg=key)


def test_timm_gives_most_of_its_siglips_exact_gelu(folder):
    edited(folder, "vision_cfg", timm_model_name=EXACT[0])
    edited(folder, "text_cfg", act_kwargs=None)
    found = pytorch.read(str(folder), HINTS)
    assert (found.image["activation"], found.text["activation"]) == ("gelu", "gelu")
    assert found.reasons["image.activation"] == f"timm's {EXACT[0]}"


def test_a_model_tuned_by_open_clip_may_see_images_as_clip_does(folder):
    edited(folder, "preprocess_cfg", mean=None, std=None, resize_mode=None)
    assert pytorch.read(str(folder), HINTS).preprocessing == replace(CLIP_PREPROCESSING, size=32)


@pytest.mark.slow
def test_timms_own_image_tower_computes_the_same(folder):
    torch = pytest.importorskip("torch")
    timm = pytest.importorskip("timm")
    found = pytorch.read(str(folder), HINTS)
    shape = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "mlp_ratio": 2.5}
    trunk = timm.create_model(TANH[0], num_classes=0, **shape).eval()
    prefix = "visual.trunk."
    tensors = load_file(folder / "open_clip_model.safetensors")
    trunk.load_state_dict(
        {key.removeprefix(prefix): torch.from_numpy(value) for key, value in tensors.items() if key.startswith(prefix)}
    )
    pixels = np.random.default_rng(0).normal(size=(3, 32, 32, 3)).astype(np.float32)
    with torch.inference_mode():
        expected = trunk(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()
    rows = weights.model_of(found).image.apply({"params": found.params["image"]}, pixels)
    np.testing.assert_allclose(rows, expected, atol=1e-5, rtol=0)


def without(key):
    def change(folder):
        tensors = load_file(folder / "open_clip_model.safetensors")
        del tensors[key]
        save_file(tensors, folder / "open_clip_model.safetensors")

    return change


def added(name, value):
    def change(folder):
        tensors = load_file(folder / "open_clip_model.safetensors")
        save_file(tensors | {name: np.asarray(value, np.float32)}, folder / "open_clip_model.safetensors")

    return change


def config(part=None, **values):
    return lambda folder: edited(folder, part, **values)


def another_tokenizer(folder):
    tiny_siglip.write_tokenizer(folder, "siglip2")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("logit_bias"), "not open_clip's file of a SigLIP: it lacks logit_bias"),
        (without("visual.trunk.attn_pool.kv.weight"), "lacks visual.trunk.attn_pool.kv.weight"),
        (without("text.text_projection.bias"), "lacks text.text_projection.bias"),
        (added("visual.trunk.cls_token", [[[1.0] * 32]]), "has also visual.trunk.cls_token"),
        (added("visual.trunk.attn_pool.kv.bias", [1.0] * 32), r"has shape \[32\], the other tensors want \[64\]"),
        (added("visual.trunk.blocks.0.norm1.bias", [np.nan] * 32), "norm1.bias holds NaN"),
        (added("visual.trunk.embeds.proj.weight", [1.0]), "is a SigLIP 2 NaFlex"),
        (lambda folder: (folder / "open_clip_config.json").unlink(), "comes with an open_clip_config.json"),
        (config("vision_cfg", timm_model_name="vit_base_patch16_224"), "'vit_base_patch16_224' is no SigLIP of timm's"),
        (config("vision_cfg", timm_model_name=7), "vision_cfg.timm_model_name"),
        (config("vision_cfg", timm_pool="avg"), "timm_pool='avg': .* only 'map' can"),
        (config("vision_cfg", image_size=44), "image_size 44, its positions are of 32 pixels in patches of 8"),
        (config(embed_dim=64), "image tower's embed_dim is 32 by its tensors, 64 by open_clip_config.json"),
        (config("text_cfg", no_causal_mask=None), "text_cfg lacks no_causal_mask"),
        (config("text_cfg", pool_type="argmax"), "pool_type='argmax': .* only 'last' can"),
        (config("text_cfg", act_kwargs={"approximate": "erf"}), "approximate"),
        (config("text_cfg", heads=5), "the text width 32 does not divide into 5 heads"),
        (config("text_cfg", layers=3), "text tower's layers is 2 by its tensors, 3 by"),
        (config("preprocess_cfg", resize_mode="longest"), "preprocess_cfg: resize_mode: invalid enum value 'longest'"),
        (config("preprocess_cfg", resize_mode=None, interpolation="bilinear"), "config.json: preprocessing: interpol"),
        (config("preprocess_cfg", size=64), "image_size is 32, preprocess_cfg resizes images to 64"),
        (another_tokenizer, "tokenizer.json has [0-9]+ ids and the text tower [0-9]+: another model's tokenizer"),
    ],
)
def test_what_does_not_fit_is_one_line(folder, change, message):
    change(folder)
    with pytest.raises(InputError, match=message) as error:
        pytorch.read(str(folder), HINTS)
    assert "\n" not in str(error.value)


def test_heads_of_an_unknown_width_are_asked_for(folder):
    with pytest.raises(InputError, match="image heads at width 32: say --image-heads"):
        pytorch.read(str(folder))
