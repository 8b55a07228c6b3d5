"""SigLIP's models: transformers computes the same, files come back bit by bit, and what does not fit is named."""

import json
import shutil
import warnings

import numpy as np
import pytest
import tiny_siglip
from PIL import Image
from safetensors.numpy import load_file, save_file
from tiny_siglip import edit

import lrsclip_jax
from lrsclip_jax import fitting, pretrained, weights
from lrsclip_jax.convert.__main__ import main
from lrsclip_jax.errors import InputError
from lrsclip_jax.pytorch import read as pytorch

SIZES = ((32, 32), (50, 81), (200, 33), (7, 19))
TEXTS = [
    "A Harbour!",
    "",
    "there are 3 airplanes at the airport, next to a long runway, ships, boats and trees",
    "Ünknown 日本 x",
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = tmp_path_factory.mktemp("siglip")
    for kind in ("siglip", "siglip2"):
        tiny_siglip.siglip_folder(made / kind, kind)
    edit(made / "siglip2/preprocessor_config.json", resample=2)  # as the published ones
    return made


@pytest.fixture
def folder(folders, tmp_path):
    return shutil.copytree(folders / "siglip", tmp_path / "model")


def images():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in SIZES]


@pytest.mark.parametrize("kind", ["siglip", pytest.param("siglip2", marks=pytest.mark.slow)])
def test_equals_transformers_from_files_and_strings_to_logits(folders, kind):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    reference = transformers.SiglipModel.from_pretrained(folders / kind).eval()
    processor = transformers.AutoProcessor.from_pretrained(folders / kind, backend="pil")
    inputs = processor(text=TEXTS, images=images(), padding="max_length", truncation=True, return_tensors="pt")
    with torch.inference_mode():
        expected = reference(**inputs)
    ours = lrsclip_jax.load(folders / kind, dtype="float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a text was cut
        np.testing.assert_array_equal(ours.tokenize(TEXTS), inputs["input_ids"])
        rows, texts = ours.images(images()), ours.texts(TEXTS)
    pixels = np.stack([ours.preprocess(image) for image in images()]) / np.float32(255)
    np.testing.assert_array_equal((pixels - 0.5) / 0.5, inputs["pixel_values"].permute(0, 2, 3, 1))
    for found, theirs in ((rows, expected.image_embeds), (texts, expected.text_embeds)):
        assert np.abs(np.diff(theirs, axis=0)).max(axis=1).min() > 1e-3  # the rows differ
        np.testing.assert_allclose(found, theirs, atol=1e-6, rtol=0)
    logits = ours.logit_scale * texts @ rows.T + ours.logit_bias
    assert abs(ours.logit_bias) > 0.01
    np.testing.assert_allclose(logits, expected.logits_per_text, atol=1e-6, rtol=0)


def test_files_that_transformers_wrote_come_back_bit_by_bit(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    vocab_size = tiny_siglip.write_tokenizer(tmp_path / "theirs")
    shared = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    config = transformers.SiglipConfig(
        vision_config=shared | {"image_size": 16, "patch_size": 8},
        text_config=shared | {"vocab_size": vocab_size, "max_position_embeddings": 8, "projection_size": 16},
    )
    torch.manual_seed(0)
    transformers.SiglipModel(config).save_pretrained(tmp_path / "theirs")
    main(["export", str(tmp_path / "theirs"), "--format=hf", f"--out={tmp_path / 'ours'}"])
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    assert before.keys() == after.keys()
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value, strict=True)
    said, written = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("theirs", "ours"))
    for tower in ("vision_config", "text_config"):
        unused = {"attention_dropout", "vision_use_head", "bos_token_id", "eos_token_id"}
        assert {k: v for k, v in said[tower].items() if k not in unused} == {
            k: v for k, v in written[tower].items() if k not in unused
        }


def test_the_bias_becomes_that_of_the_sigmoid_loss(folder):
    found = pytorch.read(str(folder))
    assert found.params["logit_bias"] == load_file(folder / "model.safetensors")["logit_bias"][0]
    model = weights.model_of(found).clone(logit_bias=-1.0)
    assert fitting.fitted(model, found, "F")["logit_bias"] == found.params["logit_bias"]


def test_towers_are_read_alone(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if k.startswith("vision_model.")}, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config["vision_config"]))  # as SiglipVisionModel saves it
    found = pytorch.read(str(folder))
    assert found.text is None and found.image["pool"] == "map" and "logit_bias" not in found.params
    assert pretrained.load(str(folder), features="encoder").images(images()).shape == (4, 32)


def test_positions_are_stretched_up_to_the_last_row_which_stays_the_last(folder):
    found = pytorch.read(str(folder))
    table = found.params["text"]["position_embedding"]
    model = weights.model_of(found)
    longer = model.clone(text=model.text.clone(context_length=40, keep=4), logit_bias=0.0)
    new = fitting.fitted(longer, found, "F")["text"]["position_embedding"]
    np.testing.assert_array_equal(new[:4], table[:4])
    np.testing.assert_array_equal(new[-1], table[-1])
    # 11 rows between them, each of which becomes 4 until there are enough.
    np.testing.assert_allclose(new[[4, 6, 8]], [table[4], (table[4] + table[5]) / 2, table[5]], atol=1e-7)
    shorter = model.clone(text=model.text.clone(context_length=12))
    with pytest.raises(InputError, match="F: model.text.context_length=12 is less than the 16 positions"):
        fitting.fitted(shorter, found, "F")


@pytest.mark.slow
def test_other_image_sizes_resize_the_table_as_transformers_does(folder):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    reference = transformers.SiglipModel.from_pretrained(folder).eval()
    pixels = np.random.default_rng(1).normal(size=(2, 48, 48, 3)).astype(np.float32)
    with torch.inference_mode():
        expected = reference.get_image_features(
            torch.from_numpy(pixels).permute(0, 3, 1, 2), interpolate_pos_encoding=True
        ).pooler_output
    found = fitting.of_size(pytorch.read(str(folder)), 48)
    rows = weights.model_of(found).image.apply({"params": found.params["image"]}, pixels)
    np.testing.assert_allclose(rows, expected, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_patches_that_do_not_divide_the_images_leave_out_their_last_pixels(folder, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config("vision_config", image_size=37)(folder)
    processor(size={"height": 37, "width": 37})(folder)
    reference = transformers.SiglipVisionModel.from_pretrained(folder).eval()
    processed = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")(images(), return_tensors="pt")
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(reference(**processed).pooler_output, dim=-1)
    ours = lrsclip_jax.load(folder, dtype="float32")
    np.testing.assert_allclose(ours.images(images()), expected, atol=1e-6, rtol=0)
    main(["export", str(folder), "--format=hf", f"--out={tmp_path / 'again'}"])
    for name in ("config.json", "preprocessor_config.json"):
        assert json.loads((tmp_path / "again" / name).read_text()) == json.loads((folder / name).read_text())
    assert fitting.of_size(pytorch.read(str(folder)), 48).preprocessing.margin == 0


def without(key):
    def change(folder):
        tensors = load_file(folder / "model.safetensors")
        del tensors[key]
        save_file(tensors, folder / "model.safetensors")

    return change


def config(tower=None, **values):
    def change(folder):
        said = json.loads((folder / "config.json").read_text())
        (said[tower] if tower else said).update(values)
        (folder / "config.json").write_text(json.dumps(said))

    return change


def naflex(folder):
    tensors = load_file(folder / "model.safetensors")
    key = "vision_model.embeddings.patch_embedding.weight"
    save_file(tensors | {key: tensors[key].reshape(32, -1)}, folder / "model.safetensors")


def processor(**values):
    return lambda folder: edit(folder / "preprocessor_config.json", **values)


def another_tokenizer(folder):
    tiny_siglip.write_tokenizer(folder, "siglip2")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("logit_bias"), "not a SiglipModel: it lacks logit_bias"),
        (without("vision_model.head.probe"), "not a SiglipModel: it lacks vision_model.head.probe"),
        (without("text_model.head.bias"), "not a SiglipModel: it lacks text_model.head.bias"),
        (lambda folder: (folder / "config.json").unlink(), "a SiglipModel comes with a config.json"),
        (config(model_type="clip"), "config.json has model_type 'clip', a SiglipModel 'siglip'"),
        (config(model_type="siglip2"), "is a SigLIP 2 NaFlex, whose images have any shape .* fixed resolution"),
        (naflex, "is a SigLIP 2 NaFlex"),
        (config("vision_config", num_attention_heads=5), "the image width 32 does not divide into 5 heads"),
        (config("vision_config", image_size=44), "image_size 44, its positions are of 32 pixels in patches of 8"),
        (config("text_config", hidden_act="relu"), "the activation 'relu' .config.json. is not supported"),
        (processor(size={"height": 64, "width": 64}), "size is .* the model's images have 32 pixels"),
        (processor(resample=1), "resample is 1, only 2 .bilinear. and 3 .bicubic. are supported"),
        (processor(do_center_crop=True), "do_center_crop is True, only false is supported"),
        (another_tokenizer, "tokenizer.json has [0-9]+ ids and the text tower [0-9]+: another model's tokenizer"),
    ],
)
def test_what_does_not_fit_is_one_line(folder, change, message):
    change(folder)
    with pytest.raises(InputError, match=message) as error:
        pytorch.read(str(folder))
    assert "\n" not in str(error.value)


def test_without_its_tokenizer_it_embeds_images_alone_and_says_what_to_do(folder):
    (folder / "tokenizer.json").rename(folder / "spiece.model")
    assert pretrained.load(str(folder), features="encoder").images(images()).shape == (4, 32)
    with pytest.raises(InputError, match="has no tokenizer.json, without which SigLIP's texts have no tokens"):
        lrsclip_jax.load(folder)
