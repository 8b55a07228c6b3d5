"""Exported folders, loaded by transformers and torch in a process that knows nothing of lrsclip_jax."""

import dataclasses
import functools
import json
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from lrsclip_jax.convert.export import export
from lrsclip_jax.convert.formats.model_card import model_card
from lrsclip_jax.data.preprocessing import IMAGENET_PREPROCESSING, preprocess
from lrsclip_jax.data.tokenizer import fit, tokenizer_for
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.models.clip import init_params, unit
from lrsclip_jax.models.pixels import normalise
from lrsclip_jax.pytorch.read import read

SIZE = 28
PREPROCESSING = dataclasses.replace(IMAGENET_PREPROCESSING, size=SIZE, crop="center_floor")

_TOWER = {"width": 32, "layers": 2, "heads": 2, "embed_dim": 24}
_CLIP_VIT = _TOWER | {"size": SIZE, "patch": 14}
_PLAIN_VIT = _CLIP_VIT | {"activation": "gelu", "norm_eps": 1e-6, "patch_bias": True, "pre_norm": False}
_CLIP_TEXT = _TOWER | {"context_length": 248, "norm_eps": 1e-3}
_BERT = _TOWER | {"kind": "bert", "context_length": 248, "heads": 4}

# Of each: the towers, and the classes of transformers and the kinds of `tokenizer_for` that are expected.
MODELS = {
    "clip_77": (_CLIP_VIT, _CLIP_TEXT | {"context_length": 77}, "CLIPModel", "transformer"),
    "clip_248": (
        _CLIP_VIT | {"activation": "gelu", "mlp_width": 80, "norm_eps": 1e-2},
        _CLIP_TEXT | {"activation": "gelu"},
        "CLIPModel",
        "transformer",
    ),
    "dinov2_clip": (_PLAIN_VIT, _CLIP_TEXT | {"mlp_width": 48}, "VisionTextDualEncoderModel", "transformer"),
    "dinov2_bert": (_PLAIN_VIT | {"activation": "quick_gelu"}, _BERT, "VisionTextDualEncoderModel", "bert"),
    "clip_bert": (_CLIP_VIT, _BERT, "VisionTextDualEncoderModel", "bert"),
}

TEXTS = [
    "An aerial photo of a harbour with two piers, twelve white boats and a long breakwater in the clear blue sea.",
    "The city’s “old” quarter\n — built in 1890… — isn't far from  the   river's LEFT bank (1.5 km, 3°E). 中文 café 😀",
    "[SEP] a park [PAD] <|endoftext|> with many trees <|startoftext|>",
    "In the upper left, a runway with parked aeroplanes; to its right, storage tanks. " * 12,
    "dense residential houses along a winding road " * 40,
]
# What the files can't say of the mending of texts before CLIP's byte pairs.
UNMENDED = ["rocks &amp; sand &#39;here&#39;", "cafÃ© roofs", "ﬁelds of ｗｈｅａｔ", "a\x01lake"]


def model_of(name):
    image, text, *_ = MODELS[name]
    return zoo.create("custom", image=image, text=text)


def random_params(model, seed=0):
    """Every parameter random, norms and biases too, no two towers alike."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        mean = 1.0 if path[-1].key == "scale" else 0.0
        return rng.normal(mean, 0.15, leaf.shape).astype(np.float32)

    return jax.tree.map_with_path(draw, jax.eval_shape(lambda: init_params(model, jax.random.key(0))))


@functools.partial(jax.jit, static_argnums=0)
def embed(tower, params, batch):
    """Compiled once for a tower that several models have."""
    return tower.apply({"params": params}, batch)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Files of several shapes, one of which is cropped at a margin of 3 pixels."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(1)
    for number, (height, width) in enumerate([(28, 28), (40, 60), (150, 150), (56, 62)]):
        coarse = rng.integers(0, 256, (height // 4, width // 4, 3), np.uint8)
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("exports")
    for seed, name in enumerate(MODELS):
        model = model_of(name)
        export(model, random_params(model, seed), PREPROCESSING, format="hf", out=root / name, source="runs/tiny")
    return {name: root / name for name in MODELS}


SHOWN = ("clip_248", "dinov2_bert")  # whose README's example is run, on the first image and text
CHILD = """
import json, os, re, sys
import numpy as np, torch, transformers
torch.set_num_threads(1)
from PIL import Image
inputs = json.load(open(sys.argv[1], encoding="utf-8"))
images = [Image.open(path).convert("RGB") for path in inputs["images"]]
for name, folder in inputs["folders"].items():
    os.chdir(folder)
    model, report = transformers.AutoModel.from_pretrained(".", output_loading_info=True)
    assert not any(report.values()), report
    tokenizer = transformers.AutoTokenizer.from_pretrained(".")
    pixels = transformers.AutoImageProcessor.from_pretrained(".", backend="pil")(images, return_tensors="pt")
    tokens = tokenizer(inputs["texts"], padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        image_rows = model.get_image_features(**pixels).pooler_output
        text_rows = model.get_text_features(**tokens).pooler_output
    shown = {}
    if name in inputs["shown"]:
        code = re.search("```python\\n(.*?)```", open("README.md", encoding="utf-8").read(), re.DOTALL)[1]
        code = code.replace('"image.jpg"', repr(inputs["images"][0]))
        exec(code.replace("an aerial photo of a harbour", inputs["texts"][0]), shown)
        shown = {"shown": (shown["outputs"].image_embeds @ shown["outputs"].text_embeds.T).numpy()}
    np.savez(
        os.path.join(inputs["out"], name),
        model=type(model).__name__,
        pixels=pixels["pixel_values"].numpy(),
        ids=tokens["input_ids"].numpy(),
        unmended=json.dumps(tokenizer(inputs["unmended"])["input_ids"]),
        mended=json.dumps(tokenizer(inputs["mended"])["input_ids"]),
        decoded=tokenizer.decode(tokens["input_ids"][0], skip_special_tokens=True),
        image_rows=torch.nn.functional.normalize(image_rows, dim=-1).numpy(),
        text_rows=torch.nn.functional.normalize(text_rows, dim=-1).numpy(),
        scale=model.logit_scale.detach().numpy(),
        **shown,
    )
assert not any(module.split(".")[0] in ("lrsclip_jax", "jax") for module in sys.modules)
"""


@pytest.fixture(scope="module")
def theirs(folders, images, tmp_path_factory):
    """What plain transformers makes of every folder."""
    pytest.importorskip("torch")
    work = tmp_path_factory.mktemp("theirs")
    inputs = {
        "folders": {name: str(folder) for name, folder in folders.items()},
        "images": [str(path) for path in images],
        "texts": TEXTS,
        "shown": SHOWN,
        "unmended": UNMENDED,
        "mended": [tokenizer_for("transformer").clean(text) for text in UNMENDED],
        "out": str(work),
    }
    (work / "inputs.json").write_text(json.dumps(inputs), encoding="utf-8")
    command = [sys.executable, "-I", "-c", CHILD, str(work / "inputs.json")]
    run = subprocess.run(command, capture_output=True, text=True, cwd=work, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    return {name: np.load(work / f"{name}.npz") for name in MODELS}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_embeddings_of_files_and_strings_equal_ours(name, theirs, images):
    found, model = theirs[name], model_of(name)
    assert found["model"] == MODELS[name][2]
    tokenizer, length = tokenizer_for(MODELS[name][3]), model.text.context_length

    pixels = np.stack([preprocess(Image.open(path), PREPROCESSING) for path in images])
    values = np.asarray(normalise(pixels, PREPROCESSING))
    np.testing.assert_allclose(found["pixels"].transpose(0, 2, 3, 1), values, atol=1e-6, rtol=0)

    encoded = tokenizer.encode(TEXTS)
    assert 20 < len(encoded[0]) < 30 and 200 < len(encoded[3]) < 240 and len(encoded[4]) > 248
    ids = np.stack([fit(row, length, tokenizer.end, tokenizer.pad) for row in encoded])
    for ours, row in zip(ids, found["ids"], strict=True):
        end = 1 + list(ours).index(tokenizer.end)
        assert list(row[:end]) == list(ours[:end])

    params = random_params(model, list(MODELS).index(name))
    image_rows = unit(embed(model.image, params["image"], values))
    text_rows = unit(embed(model.text, params["text"], ids))
    for ours, rows in ((image_rows, found["image_rows"]), (text_rows, found["text_rows"])):
        assert np.abs(np.diff(rows, axis=0)).max(axis=1).min() > 0.01  # no two rows are alike
        np.testing.assert_allclose(rows, ours, atol=1e-5, rtol=0)
    assert found["scale"] == params["logit_scale"]
    if name in SHOWN:
        np.testing.assert_allclose(found["shown"], image_rows[:1] @ text_rows[:1].T, atol=1e-5, rtol=0)


def test_texts_that_need_mending_have_our_ids_once_mended(theirs):
    for name, found in theirs.items():
        ours = tokenizer_for(MODELS[name][3]).encode(UNMENDED)
        same = [ids == row for ids, row in zip(json.loads(str(found["unmended"])), ours, strict=True)]
        assert same == [MODELS[name][3] == "bert"] * len(UNMENDED)
    assert json.loads(str(theirs["clip_248"]["mended"])) == tokenizer_for("transformer").encode(UNMENDED)


def test_ids_are_read_back_as_text(theirs):
    assert str(theirs["clip_248"]["decoded"]).startswith("an aerial photo of a harbour with two piers , twelve white")


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_folder_is_read_back_bit_by_bit(name, folders):
    model = model_of(name)
    found, params = read(str(folders[name])), random_params(model, list(MODELS).index(name))
    assert zoo.fields(zoo.create("custom", image=found.image, text=found.text)) == zoo.fields(model)
    jax.tree.map(np.testing.assert_array_equal, found.params, params)
    assert found.preprocessing == PREPROCESSING


def test_what_is_told_and_the_card(tmp_path):
    model = model_of("dinov2_bert")
    preprocessing = dataclasses.replace(PREPROCESSING, crop="center")
    source = str(tmp_path / "runs" / "small" / "checkpoints" / "500")
    lines = export(
        model, random_params(model), preprocessing, format="hf", out=tmp_path / "new" / "small", source=source
    )
    text = "\n".join(lines)
    assert "VisionTextDualEncoderModel of Dinov2Model and BertModel, 248 positions" in text
    files = {path.name for path in (tmp_path / "new" / "small").iterdir()}
    assert files == set(re.search("files: (.*)", text)[1].split(", ")) and "model.safetensors" in files
    assert "one pixel off" in text
    card = (tmp_path / "new" / "small" / "README.md").read_text()
    assert "from small, step 500" in card and str(tmp_path) not in card and "one pixel off" in card
    assert "html.unescape" not in card
    of_clip = model_card(model_of("clip_77"), PREPROCESSING, name="x", architecture="CLIPModel", source="hf:a/b@c")
    assert "html.unescape" in of_clip and "from hf:a/b@c;" in of_clip and "one pixel off" not in of_clip


@pytest.mark.parametrize(
    ("image", "text", "reason"),
    [
        ({"pool": "mean"}, {}, "takes the mean of the patches"),
        ({"patch_bias": True}, {}, "both a norm before the blocks and a bias"),
        ({"pre_norm": False}, {}, "neither a norm before the blocks nor a bias"),
        (
            {"pre_norm": False, "patch_bias": True, "mlp_width": 80},
            {},
            "MLP is 80 wide, in Dinov2Model a multiple of 32",
        ),
        ({}, {"vocab_size": 100, "end_token": 99}, "has 100 tokens, clip's tokenizer 49408"),
        ({}, {"end_token": 5}, "ends texts with token 5"),
        ({}, _BERT | {"pool": "cls"}, "BertModel puts it through a pooler"),
    ],
)
def test_what_transformers_can_not_say_is_refused_with_the_reason(image, text, reason, tmp_path):
    model = zoo.create("custom", image=_CLIP_VIT | image, text=_CLIP_TEXT | text)
    with pytest.raises(InputError, match=reason) as error:
        export(model, {}, PREPROCESSING, format="hf", out=tmp_path / "out", source="x")
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())
