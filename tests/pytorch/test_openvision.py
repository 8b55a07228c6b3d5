"""OpenVision's folders: a twin of torch's own layers computes the same, and what does not fit is named."""

import json
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

import lrsclip_jax
from lrsclip_jax.convert.__main__ import main
from lrsclip_jax.data import tokenizer_file
from lrsclip_jax.data.tokenizer import bert_tokenizer
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.pytorch import layout
from lrsclip_jax.pytorch import read as pytorch
from lrsclip_jax.pytorch.contract import Hints
from lrsclip_jax.pytorch.families import openvision

SIZE, PATCH, EMBED, LENGTH = 32, 8, 16, 12
IMAGE, TEXT = {"width": 32, "heads": 2, "mlp": 80}, {"width": 24, "heads": 3, "mlp": 96}
WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"
TEXTS = ["A Harbour!", "", "there are 3 airplanes at the airport, next to a long runway, ships, boats and trees"]
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def tensors_of(seed=0):
    rng = np.random.default_rng(seed)

    def drawn(*shape):
        return (rng.normal(size=shape) * 0.2).astype(np.float32)

    found = {
        "visual.conv1.weight": drawn(IMAGE["width"], 3, PATCH, PATCH),
        "visual.class_embedding": drawn(IMAGE["width"]),
        "visual.positional_embedding": drawn(1 + (SIZE // PATCH) ** 2, IMAGE["width"]),
        "visual.proj": drawn(IMAGE["width"], EMBED),
        "token_embedding.weight": drawn(32000, TEXT["width"]),
        "positional_embedding": drawn(LENGTH, TEXT["width"]),
        "text_projection": drawn(TEXT["width"], EMBED),
        "logit_scale": np.full((), 2.5, np.float32),
    }
    for prefix, norm, of in (("visual.", "visual.ln_post", IMAGE), ("", "ln_final", TEXT)):
        width, mlp = of["width"], of["mlp"]
        shapes = {
            **{f"ln_{number}.{kind}": (width,) for number in (1, 2) for kind in ("weight", "bias")},
            "attn.in_proj_weight": (3 * width, width),
            "attn.in_proj_bias": (3 * width,),
            "attn.out_proj.weight": (width, width),
            "attn.out_proj.bias": (width,),
            "mlp.c_fc.weight": (mlp, width),
            "mlp.c_fc.bias": (mlp,),
            "mlp.c_proj.weight": (width, mlp),
            "mlp.c_proj.bias": (width,),
        }
        for layer in range(2):
            found |= {f"{prefix}transformer.resblocks.{layer}.{key}": drawn(*shape) for key, shape in shapes.items()}
        found |= {f"{norm}.weight": 1 + drawn(width), f"{norm}.bias": drawn(width)}
    return found


def described():
    """OpenVision's model_configs/openvision-vit-….json in miniature."""
    eps = {"norm_kwargs": {"eps": 1e-6}}
    vision_cfg = {
        "image_size": SIZE,
        "layers": 2,
        "width": IMAGE["width"],
        "patch_size": PATCH,
        "head_width": 16,
        "no_ln_pre": True,
        "pool_type": "avg",
        "final_ln_after_pool": True,
        "mlp_ratio": 2.5,
    }
    text_cfg = {
        "context_length": LENGTH,
        "vocab_size": 32000,
        "width": TEXT["width"],
        "heads": 3,
        "layers": 2,
        "hf_tokenizer_name": "bert-base-uncased",
        "tokenizer_kwargs": {"strip_sep_token": True},
        "pool_type": "last",
        "no_causal_mask": True,
        "act_kwargs": {"approximate": "tanh"},
    }
    model_cfg = {"embed_dim": EMBED, "vision_cfg": vision_cfg | eps, "text_cfg": text_cfg | eps}
    return {
        "model_cfg": model_cfg,
        "preprocess_cfg": IMAGENET | {"interpolation": "bilinear", "resize_mode": "squash"},
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("openvision")
    save_file(tensors_of(), folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(described()))
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "model")


def twin(torch, tensors, of, prefix, activation):
    """A tower's blocks as torch's own encoder."""
    layer = torch.nn.TransformerEncoderLayer(
        of["width"], of["heads"], of["mlp"], 0.0, activation, 1e-6, batch_first=True, norm_first=True
    )
    blocks = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    names = {"self_attn.": "attn.", "linear1": "mlp.c_fc", "linear2": "mlp.c_proj", "norm": "ln_"}

    def theirs(key):
        for mine, name in names.items():
            key = key.replace(mine, name)
        return f"{prefix}transformer.resblocks.{key.removeprefix('layers.')}"

    blocks.load_state_dict({key: torch.from_numpy(tensors[theirs(key)]) for key in blocks.state_dict()})
    return blocks


def computed(torch, tensors, pixels, ids):
    """Unit rows of images and texts, after OpenVision's transformer.py and model.py."""
    functional = torch.nn.functional
    weights = {key: torch.from_numpy(value) for key, value in tensors.items()}

    def norm(x, name):
        return functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-6)

    x = functional.conv2d(torch.from_numpy(pixels).permute(0, 3, 1, 2), weights["visual.conv1.weight"], stride=PATCH)
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([weights["visual.class_embedding"].expand(len(x), 1, -1), x], dim=1)
    x = twin(torch, tensors, IMAGE, "visual.", "gelu")(x + weights["visual.positional_embedding"])
    images = norm(x[:, 1:].mean(dim=1), "visual.ln_post") @ weights["visual.proj"]
    tanh = torch.nn.GELU(approximate="tanh")
    x = weights["token_embedding.weight"][torch.from_numpy(ids)] + weights["positional_embedding"]
    texts = norm(twin(torch, tensors, TEXT, "", tanh)(x)[:, -1], "ln_final") @ weights["text_projection"]
    return [functional.normalize(rows, dim=-1).detach().numpy() for rows in (images, texts)]


def test_equals_torch_from_files_and_strings_to_rows(made):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    images = [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in ((32, 32), (50, 81))]
    ours = lrsclip_jax.load(made, dtype="float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a text was cut
        ids, rows, texts = np.asarray(ours.tokenize(TEXTS)), ours.images(images), ours.texts(TEXTS)
    # As open_clip's HFTokenizer makes them with strip_sep_token: BERT's rows, in which 0 stands for [SEP].
    for row, text in zip(ids, bert_tokenizer().encode(TEXTS), strict=True):
        expected = [*text[: LENGTH - 1], 102] if len(text) > LENGTH else text
        np.testing.assert_array_equal(row, [*expected[:-1], *[0] * (LENGTH + 1 - len(expected))])
    squashed = [np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR), np.float32) / 255 for image in images]
    pixels = (np.stack(squashed) - np.float32(IMAGENET["mean"])) / np.float32(IMAGENET["std"])
    for found, theirs in zip((rows, texts), computed(torch, tensors_of(), pixels, ids), strict=True):
        assert np.abs(np.diff(theirs, axis=0)).max(axis=1).min() > 1e-3  # the rows differ
        np.testing.assert_allclose(found, theirs, atol=1e-6, rtol=0)


def test_every_tensor_comes_back_bit_by_bit_and_a_run_keeps_the_tokenizer(made, tmp_path):
    found, tensors = pytorch.read(str(made)), load_file(made / WEIGHTS)
    back = layout.to_theirs(openvision.table(), found.params)
    assert not back.pop("text_projection.bias").any() and back.keys() == tensors.keys()
    for key in tensors:
        np.testing.assert_array_equal(back[key], tensors[key], strict=True, err_msg=key)
    main(["import", str(made), f"--workdir={tmp_path / 'run'}"])
    again, first = lrsclip_jax.load(tmp_path / "run", dtype="float32"), lrsclip_jax.load(made, dtype="float32")
    assert again.tokenizer.hash == first.tokenizer.hash
    np.testing.assert_array_equal(again.texts(TEXTS[:2]), first.texts(TEXTS[:2]))
    with pytest.raises(InputError, match="the text tower is SigLIP's and the image tower is not"):
        main(["export", str(made), "--format=hf", f"--out={tmp_path / 'hf'}"])


def test_the_models_of_the_zoo_are_those_of_the_configs():
    shared = {"pool": "mean", "pre_norm": False, "patch_bias": False, "norm_eps": 1e-6, "activation": "gelu"}
    for name in ("vits16", "vitb16", "vitl14", "so400m14", "vith14"):
        image, text = zoo.fields(zoo.create(f"openvision_{name}"))
        assert shared.items() <= image.items()
        said = {"vocab_size": 32000, "context_length": 80, "pad_token": 0, "activation": "gelu_tanh", "norm_eps": 1e-6}
        assert said.items() <= text.items()


def test_a_tokenizer_json_of_bert_is_openvisions(folder):
    (folder / "tokenizer.json").write_text(bert_tokenizer().engine.to_str())
    assert pytorch.read(str(folder)).tokenizer.hash == tokenizer_file.openvision().hash


def without(key):
    def change(folder):
        tensors = load_file(folder / WEIGHTS)
        del tensors[key]
        save_file(tensors, folder / WEIGHTS)

    return change


def config(part=None, **values):
    def change(folder):
        said = json.loads((folder / CONFIG).read_text())
        target = said["model_cfg"][part] if part else said["model_cfg"]
        target |= values
        (folder / CONFIG).write_text(json.dumps(said))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / CONFIG).unlink(), "an OpenVision comes with an open_clip_config.json"),
        (without("visual.proj"), "is not an OpenVision: it lacks visual.proj"),
        (without("positional_embedding"), "lacks positional_embedding"),
        (config("text_cfg", no_causal_mask=False), "text_cfg lacks no_causal_mask"),
        (config("text_cfg", hf_tokenizer_name="roberta-base"), "hf_tokenizer_name is 'roberta-base'"),
        (config("text_cfg", tokenizer_kwargs={"strip_sep_token": False}), "strip_sep_token false"),
        (config("text_cfg", tokenizer_kwargs=None), "tokenizer_kwargs"),
        (config("text_cfg", heads=5), "the text width 24 does not divide into 5 heads"),
        (config("vision_cfg", width=64), "image tower's width is 32 by its tensors, 64 by"),
        (config("vision_cfg", no_ln_pre=False), "lacks visual.ln_pre.bias, visual.ln_pre.weight"),
        (config(embed_dim=24), r"visual.proj has shape \[32, 16\], the other tensors want \[32, 24\]"),
    ],
)
def test_what_does_not_fit_is_one_line(folder, change, message):
    change(folder)
    with pytest.raises(InputError, match=message) as error:
        pytorch.read(str(folder))
    assert "\n" not in str(error.value)


def test_patches_that_do_not_divide_the_images_leave_out_their_last_pixels(folder):
    config("vision_cfg", image_size=37)(folder)  # as of so400m-patch14-384
    found = pytorch.read(str(folder)).preprocessing
    assert (found.size, found.margin) == (SIZE, 5)
    config("vision_cfg", image_size=40)(folder)
    with pytest.raises(InputError, match="image_size 40, its positions are of 32 pixels in patches of 8"):
        pytorch.read(str(folder))


@pytest.mark.parametrize("name", ["jax_orbax_weight", "jax_orbax_weight/checkpoint.npz"])
def test_the_jax_weights_are_named(tmp_path, name):
    (tmp_path / "jax_orbax_weight/checkpoint.npz/1000/default").mkdir(parents=True)
    with pytest.raises(InputError, match="written by Orbax, .* take .*open_clip_pytorch_model.bin"):
        pytorch.read(str(tmp_path / name))


def test_a_hint_that_says_otherwise(folder):
    with pytest.raises(InputError, match="open_clip_config.json says gelu, --activation says quick_gelu"):
        pytorch.read(str(folder), Hints(activation="quick_gelu"))
