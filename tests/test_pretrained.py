import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_clip
from PIL import Image

import lrsclip_jax
from lrsclip_jax.convert.export import export
from lrsclip_jax.data.tokenizer import clip_tokenizer, fit
from lrsclip_jax.errors import InputError

POSITIONS = 90  # texts run at 32, 77 and 90 tokens


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "clip"
    tiny_clip.clip_folder(folder, tiny_clip.model(text={"context_length": POSITIONS}))
    return folder


@pytest.fixture(scope="module")
def model(source):
    return lrsclip_jax.load(source, batch_size=4)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (11, 37, 48, 3), np.uint8)


@pytest.fixture(scope="module")
def rows(model, pixels):
    """The rows of `pixels`, straight through the towers."""
    images = [np.asarray(Image.fromarray(image).resize((41, 32), Image.Resampling.BICUBIC)) for image in pixels]
    values = (np.stack(images)[:, :, 4:36] / 255 - tiny_clip.PREPROCESSING.mean) / tiny_clip.PREPROCESSING.std
    apply = jax.jit(lambda params, x: model.clip.apply({"params": params}, x, method="encode_image"))
    return np.asarray(apply(model.params, values.astype(np.float32)))


def text_rows(model, texts):
    """Rows straight through the tower, every text at the context length."""
    ids = np.stack([fit(row, POSITIONS, end=49407) for row in clip_tokenizer().encode(texts)])
    apply = jax.jit(lambda params, x: model.clip.apply({"params": params}, x, method="encode_text"))
    return np.asarray(apply(model.params, ids))


def test_importing_the_package_does_not_import_jax():
    code = "import sys, lrsclip_jax; assert callable(lrsclip_jax.load); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.slow
def test_images_of_every_kind_in_their_order(model, pixels, rows, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(len(pixels))]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    mixed = [str(paths[0]), paths[1], Image.open(paths[2]), Image.fromarray(pixels[3]), *pixels[4:]]
    assert np.ptp(rows, axis=0).max() > 0.05  # they differ: a wrong order would show
    for images in (paths, mixed, pixels, list(pixels), iter(pixels)):
        found = model.images(images)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, rows, atol=1e-6, rtol=0)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_few_images_do_not_fill_a_batch(source, pixels, rows):
    model = lrsclip_jax.load(source, batch_size=64)
    seen = []
    encoder = model._encoders["image"]
    counted = encoder._replace(unit=lambda params, batch: seen.append(len(batch)) or encoder.unit(params, batch))
    model = dataclasses.replace(model, _encoders={"image": counted})
    for count in (1, 3, 11):
        np.testing.assert_allclose(model.images(pixels[:count]), rows[:count], atol=1e-6, rtol=0)
    assert seen == [1, 8, 64]


def test_texts_do_not_depend_on_their_static_length(model):
    texts = [" ".join(["tree"] * count) + end for count in (88, 3, 30, 31, 60, 75, 0, 76) for end in ("", " house")][1:]
    with pytest.warns(UserWarning, match="^1 of 15 texts were cut to 90 tokens$"):
        found = model.texts(texts)
    expected = text_rows(model, texts)
    assert np.ptp(expected, axis=0).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


def test_tokens_are_cut_and_padded_to_the_context_length(model):
    with pytest.warns(UserWarning, match="1 of 2 texts"):
        ids = model.tokenize(["a photo", "tree " * 100])
    assert ids.dtype == np.int32 and ids.shape == (2, POSITIONS)
    assert ids[0, :5].tolist() == [49406, 320, 1125, 49407, 0] and ids[1, -1] == 49407
    assert model.tokenize(iter([])).shape == (0, POSITIONS)


def test_nothing_gives_no_rows(model):
    assert model.images([]).shape == model.texts([]).shape == (0, 16)


def test_preprocess_gives_the_crop_of_the_source(model, pixels):
    # 37 × 48 becomes 32 × 41, whose margin of 9 transformers, CLIP and open_clip halve to 4; 32 × 35: to 1, and to 2
    assert model.preprocess(pixels[0]).shape == (32, 32, 3)
    np.testing.assert_array_equal(model.preprocess(pixels[0][:32, :35]), pixels[0][:32, 1:33])


def test_what_it_knows_of_itself(model, source):
    assert (model.source, model.family) == (str(source), "Hugging Face CLIPModel")
    assert model.context_length == POSITIONS
    assert model.logit_scale == pytest.approx(np.exp(model.params["logit_scale"])) and type(model.logit_scale) is float
    assert model.preprocessing == dataclasses.replace(tiny_clip.PREPROCESSING, crop="center_floor")
    assert {leaf.dtype for leaf in jax.tree.leaves(model.params)} == {jnp.dtype("float32")}
    assert len(repr(model)) < 500  # no arrays, no vocabulary


def test_half_precision_stays_near(source, pixels, rows):
    found = lrsclip_jax.load(source, batch_size=4, dtype="bfloat16").images(pixels[:4])
    difference = np.abs(found - rows[:4]).max()
    assert found.dtype == np.float32 and 1e-5 < difference < 0.05


@pytest.mark.parametrize(
    ("method", "argument", "error", "message"),
    [
        ("images", "a.jpg", TypeError, r"images come as a list: model.images\(\[image\]\)"),
        ("images", Image.new("RGB", (8, 8)), TypeError, "images come as a list"),
        ("images", np.zeros((8, 8, 3), np.uint8), TypeError, r"one array \[8, 8, 3\] is one image"),
        (
            "images",
            [np.zeros((8, 8, 3), np.float32)],
            InputError,
            r"must be uint8 \[H, W, 3\], not float32 \[8, 8, 3\]",
        ),
        ("images", [np.zeros((8, 8), np.uint8)], InputError, r"not uint8 \[8, 8\]"),
        ("images", [7], TypeError, "an image is a path, a PIL image or a uint8 array .*, not int"),
        ("images", ["none.jpg"], InputError, "none.jpg: image can't be read"),
        ("texts", "a harbour", TypeError, r"texts come as a list: model.texts\(\[text\]\)"),
        ("texts", ["a harbour", None], TypeError, "a text is a str, not NoneType"),
        ("tokenize", "a harbour", TypeError, "texts come as a list"),
    ],
)
def test_wrong_arguments_are_named(model, method, argument, error, message):
    with pytest.raises(error, match=message):
        getattr(model, method)(argument)


def test_one_tower_is_no_model(tmp_path):
    tiny_clip.bert_file(tmp_path)
    with pytest.raises(InputError, match=r"\(BERT\) lacks an image tower and the text tower's projection: .* import"):
        lrsclip_jax.load(tmp_path / "bert.safetensors", text_heads=1)
    with pytest.raises(InputError, match="batch_size is 0"):
        lrsclip_jax.load(tmp_path, batch_size=0)


def test_hints_tell_what_a_file_does_not(model, tmp_path):
    path = tmp_path / "model.safetensors"
    params = jax.tree.map(np.asarray, model.params)
    export(model.clip, params, model.preprocessing, format="open_clip", out=path, source="a test")
    with pytest.raises(InputError, match="--activation"):
        lrsclip_jax.load(path, image_heads=1, text_heads=1)
    hinted = lrsclip_jax.load(path, activation="quick_gelu", image_heads=1, text_heads=1, batch_size=4)
    np.testing.assert_array_equal(hinted.texts(["a harbour", "a forest"]), model.texts(["a harbour", "a forest"]))
