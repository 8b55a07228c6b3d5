"""Exported files: the reference's keys, its function, what comes back from them, and what is refused."""

import dataclasses
import json
import resource
import sys

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from lrsclip_jax import weights
from lrsclip_jax.convert.__main__ import main
from lrsclip_jax.convert.export import FORMATS, export
from lrsclip_jax.convert.formats.output_files import write_pt
from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING, IMAGENET_PREPROCESSING
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.models.clip import init_params
from lrsclip_jax.pytorch.contract import Hints
from lrsclip_jax.pytorch.read import read

LAYERS = 2
_TOWER = {"width": 128, "layers": LAYERS, "heads": 2, "embed_dim": 24}
IMAGE, TEXT = _TOWER | {"size": 16, "patch": 8}, _TOWER | {"context_length": 248, "width": 64, "heads": 1}
BERT = {"kind": "bert", "width": 64, "layers": 1, "heads": 1, "embed_dim": 24}


def tiny(image=None, text=None):
    """A model whose function every format can say, but for `image` and `text`."""
    return zoo.create("custom", image=IMAGE | (image or {}), text=TEXT | (text or {}))


def random_params(model):
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        mean = 1.0 if path[-1].key == "scale" else 0.0
        return rng.normal(mean, 0.15, leaf.shape).astype(np.float32)

    return jax.tree.map_with_path(draw, jax.eval_shape(lambda: init_params(model, jax.random.key(0))))


def write(model, params, format, out):
    return export(model, params, CLIP_PREPROCESSING, format=format, out=out, source="runs/tiny")


# OpenAI's state dict, as its model code names it.
def openai_keys():
    def blocks(prefix):
        parts = ("ln_1", "ln_2", "attn.out_proj", "mlp.c_fc", "mlp.c_proj")
        names = [f"{part}.{kind}" for part in parts for kind in ("weight", "bias")]
        names += ["attn.in_proj_weight", "attn.in_proj_bias"]
        return {f"{prefix}transformer.resblocks.{layer}.{name}" for layer in range(LAYERS) for name in names}

    norms = {
        f"{norm}.{kind}" for norm in ("visual.ln_pre", "visual.ln_post", "ln_final") for kind in ("weight", "bias")
    }
    image = {"visual.conv1.weight", "visual.class_embedding", "visual.positional_embedding", "visual.proj"}
    text = {"token_embedding.weight", "positional_embedding", "text_projection", "logit_scale"}
    return norms | image | text | blocks("visual.") | blocks("")


@pytest.fixture(scope="module")
def model():
    return tiny()


@pytest.fixture(scope="module")
def params(model):
    return random_params(model)


def test_longclip_has_the_references_keys_and_both_tables(model, params, tmp_path):
    (line,) = write(model, params, "longclip", tmp_path / "x.safetensors")
    tensors = load_file(tmp_path / "x.safetensors")
    assert set(tensors) == openai_keys() | {"positional_embedding_res"}
    table = params["text"]["position_embedding"]
    for key in ("positional_embedding", "positional_embedding_res"):
        np.testing.assert_array_equal(tensors[key], table)
    assert tensors["visual.proj"].shape == (128, 24) and tensors["visual.conv1.weight"].shape == (128, 3, 8, 8)
    assert tensors["transformer.resblocks.1.attn.in_proj_weight"].shape == (192, 64)
    assert all(tensor.dtype == np.float32 for tensor in tensors.values())
    assert "Long-CLIP's code, 248 positions" in line and f"{len(tensors)} tensors" in line


def test_openai_has_the_references_keys(params, tmp_path):
    model = tiny(text={"context_length": 77})
    write(model, random_params(model), "openai", tmp_path / "x.safetensors")
    tensors = load_file(tmp_path / "x.safetensors")
    numbers = {"input_resolution": 16, "context_length": 77, "vocab_size": 49408}
    assert set(tensors) == openai_keys() | numbers.keys() and tensors["positional_embedding"].shape == (77, 64)
    assert {name: tensors[name] for name in numbers} == numbers


def reference(torch):
    """The model of Long-CLIP's and LRSCLIP's code, as far as it computes embeddings, on torch's own attention."""
    nn = torch.nn

    class QuickGELU(nn.Module):
        def forward(self, x):
            return x * torch.sigmoid(1.702 * x)

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.attn = nn.MultiheadAttention(width, width // 64, batch_first=True)
            self.mlp = nn.Sequential()
            self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
            self.mlp.add_module("gelu", QuickGELU())
            self.mlp.add_module("c_proj", nn.Linear(4 * width, width))

        def forward(self, x, mask):
            y = self.ln_1(x)
            x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
            return x + self.mlp(self.ln_2(x))

    class Transformer(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.resblocks = nn.ModuleList(Block(width) for _ in range(LAYERS))

        def forward(self, x, mask=None):
            for block in self.resblocks:
                x = block(x, mask)
            return x

    class Visual(nn.Module):
        def __init__(self, width, patch, tokens, out):
            super().__init__()
            self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
            self.class_embedding = nn.Parameter(torch.empty(width))
            self.positional_embedding = nn.Parameter(torch.empty(tokens, width))
            self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
            self.transformer = Transformer(width)
            self.proj = nn.Parameter(torch.empty(width, out))

        def forward(self, images):
            x = self.conv1(images).flatten(2).transpose(1, 2)
            x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.positional_embedding
            return self.ln_post(self.transformer(self.ln_pre(x))[:, 0]) @ self.proj

    class LongCLIP(nn.Module):
        def __init__(self):
            super().__init__()
            self.visual = Visual(128, 8, 5, 24)
            self.transformer = Transformer(64)
            self.token_embedding = nn.Embedding(49408, 64)
            self.positional_embedding = nn.Parameter(torch.empty(248, 64))
            self.positional_embedding_res = nn.Parameter(torch.empty(248, 64))
            self.ln_final = nn.LayerNorm(64)
            self.text_projection = nn.Parameter(torch.empty(64, 24))
            self.logit_scale = nn.Parameter(torch.empty(()))

        def encode_text(self, ids):
            first = (torch.arange(248) < 20)[:, None]
            x = self.token_embedding(ids) + self.positional_embedding * first + self.positional_embedding_res * ~first
            x = self.ln_final(self.transformer(x, torch.full((248, 248), -torch.inf).triu(1)))
            return x[torch.arange(len(ids)), ids.argmax(-1)] @ self.text_projection

    return LongCLIP().eval()


def test_the_references_model_takes_a_pt_file_and_computes_the_same(model, params, tmp_path):
    torch = pytest.importorskip("torch")
    write(model, params, "longclip", tmp_path / "x.pt")
    theirs = reference(torch)
    theirs.load_state_dict(torch.load(tmp_path / "x.pt", weights_only=True), strict=True)
    rng = np.random.default_rng(1)
    images = rng.normal(size=(3, 16, 16, 3)).astype(np.float32)
    ids = np.zeros((3, 248), np.int32)
    for row, end in zip(ids, (4, 100, 247), strict=True):
        row[: end + 1] = [49406, *rng.integers(1, 49406, end - 1), 49407]
    with torch.inference_mode():
        rows = theirs.visual(torch.from_numpy(images).permute(0, 3, 1, 2)), theirs.encode_text(torch.from_numpy(ids))
    image_rows, (text_rows,), _ = jax.jit(model.apply)({"params": params}, images, ids)
    for ours, raw in zip((image_rows, text_rows), rows, strict=True):
        expected = torch.nn.functional.normalize(raw, dim=-1).numpy()
        assert np.abs(np.diff(expected, axis=0)).max() > 0.01
        np.testing.assert_allclose(ours, expected, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize(("format", "length"), [("longclip", 248), ("openai", 77), ("open_clip", 100)])
def test_files_are_read_back_bit_by_bit(format, length, suffix, tmp_path):
    if suffix == ".pt":
        pytest.importorskip("torch")
    model = tiny(text={"context_length": length})
    params = random_params(model)
    write(model, params, format, tmp_path / f"x{suffix}")
    untold = format == "open_clip"  # the other two are told by their keys
    hints = Hints(activation="quick_gelu", image_heads=2, text_heads=1) if untold else Hints()
    found = read(str(tmp_path / f"x{suffix}"), hints)
    jax.tree.map(np.testing.assert_array_equal, found.params, params)
    assert zoo.fields(zoo.create("custom", image=found.image, text=found.text)) == zoo.fields(model)


def test_torch_has_nothing_to_warn_of(tmp_path, recwarn):
    torch = pytest.importorskip("torch")
    array = np.arange(3, dtype=np.float32)
    array.flags.writeable = False  # as arrays that come from JAX are
    write_pt(tmp_path / "x.pt", {"a": array})
    assert [str(warning.message) for warning in recwarn] == []
    assert torch.load(tmp_path / "x.pt", weights_only=True)["a"].tolist() == [0, 1, 2]


def test_what_a_file_does_not_tell_is_said(model, params, tmp_path):
    lines = export(model, params, IMAGENET_PREPROCESSING, format="longclip", out=tmp_path / "x.safetensors", source="x")
    assert lines[1].startswith("what the file does not tell: images are normalised with mean [0.485, 0.456, 0.406]")


def test_an_open_clip_folder_tells_the_whole_model(tmp_path):
    image = {"activation": "gelu", "mlp_width": 300, "norm_eps": 1e-6, "heads": 8, "pre_norm": False, "pool": "mean"}
    model = tiny(image, {"activation": "gelu", "context_length": 100})
    params = random_params(model)
    preprocessing = IMAGENET_PREPROCESSING.__class__(16, IMAGENET_PREPROCESSING.mean, IMAGENET_PREPROCESSING.std)
    lines = export(model, params, preprocessing, format="open_clip", out=tmp_path / "v1.0", source="x")
    assert f"local-dir:{tmp_path}/v1.0" in "\n".join(lines)
    found = read(str(tmp_path / "v1.0"))
    jax.tree.map(np.testing.assert_array_equal, found.params, params)
    assert zoo.fields(zoo.create("custom", image=found.image, text=found.text)) == zoo.fields(model)
    assert found.preprocessing == preprocessing
    config = json.loads((tmp_path / "v1.0" / "open_clip_config.json").read_text())
    assert config["model_cfg"]["vision_cfg"] == {
        "width": 128,
        "layers": 2,
        "mlp_ratio": 300.5 / 128,
        "norm_kwargs": {"eps": 1e-6},
        "image_size": 16,
        "patch_size": 8,
        "head_width": 16,
        "no_ln_pre": True,
        "pool_type": "avg",
        "final_ln_after_pool": True,
    }


@pytest.mark.slow
def test_open_clip_keeps_the_bias_of_the_sigmoid_loss_and_other_formats_say_that_they_do_not(model, params, tmp_path):
    biased = params | {"logit_bias": np.float32(-9.5)}
    pixels = dataclasses.replace(CLIP_PREPROCESSING, size=16)
    export(model, biased, pixels, format="open_clip", out=tmp_path / "folder", source="x")
    config = json.loads((tmp_path / "folder/open_clip_config.json").read_text())
    assert config["model_cfg"]["init_logit_bias"] == -9.5
    back = read(str(tmp_path / "folder")).params
    assert back["logit_bias"] == -9.5 and back["logit_scale"] == params["logit_scale"]
    main(["import", str(tmp_path / "folder"), f"--workdir={tmp_path / 'run'}"])
    assert weights.read(str(tmp_path / "run")).params["logit_bias"] == -9.5  # a run of the sigmoid loss
    for format, out in (("longclip", "x.safetensors"), ("hf", "hf")):
        lines = export(model, biased, pixels, format=format, out=tmp_path / out, source="x")
        assert lines[-1].startswith("left out: the bias of the sigmoid loss, -9.5; --format=open_clip")
        assert "logit_bias" not in read(str(tmp_path / out)).params


def test_an_open_clip_file_says_what_it_leaves_open(model, params, tmp_path):
    lines = write(model, params, "open_clip", tmp_path / "x.safetensors")
    assert "quick_gelu, 2 heads of the image tower and 1 of the text tower" in lines[1]


@pytest.mark.parametrize(
    ("format", "image", "text", "reason"),
    [
        ("openai", {}, {}, "248 positions.*77.*can't be undone.*first 20 rows and every fourth"),
        ("openai", {}, {"context_length": 64}, "64 positions, OpenAI's code 77; try --format=open_clip"),
        ("longclip", {}, {"context_length": 77}, "77 positions, Long-CLIP's code 248; import it with --context-length"),
        ("longclip", {}, {"activation": "gelu"}, "text tower has gelu, .*quick_gelu; try --format=open_clip"),
        ("longclip", {"heads": 4}, {}, "image tower has 4 heads, .*makes heads of 64: 2"),
        ("longclip", {"mlp_width": 100}, {}, "MLP is 100 wide, in Long-CLIP's code 512"),
        ("longclip", {"norm_eps": 1e-6}, {}, "eps 1e-06"),
        ("longclip", {"pre_norm": False}, {}, "norm before its blocks"),
        ("openai", {"pool": "mean"}, {"context_length": 77}, "takes the class token"),
        ("openai", {}, BERT, "text tower is a BERT; try --format=hf"),
        ("open_clip", {}, BERT, "text tower is a BERT"),
        ("open_clip", {"patch_bias": True}, {}, "bias on its patches.*try --format=hf"),
        ("open_clip", {"activation": "gelu"}, {}, "two activations, gelu and quick_gelu"),
        ("open_clip", {}, {"vocab_size": 100, "end_token": 99}, "vocabulary of 100 tokens is not CLIP's"),
    ],
)
def test_what_a_format_can_not_say_is_refused_with_the_reason(format, image, text, reason, tmp_path):
    model = zoo.create("custom", image=IMAGE | image, text=(text if "kind" in text else TEXT | text))
    with pytest.raises(InputError, match=f"--format={format} .*{reason}") as error:
        write(model, {}, format, tmp_path / "x.safetensors")
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("format", "out", "message"),
    [
        ("open-clip", "x.pt", "unknown --format=open-clip, did you mean 'open_clip'"),
        ("hf", "x.safetensors", "writes a folder"),
        ("longclip", "x", "should end in .pt or .safetensors"),
        ("open_clip", "x.bin", "should end in .pt or .safetensors"),
    ],
)
def test_a_wrong_format_or_suffix_is_named(format, out, message, model, params, tmp_path):
    with pytest.raises(InputError, match=message):
        write(model, params, format, tmp_path / out)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("format", "out"), [("longclip", "x.safetensors"), ("longclip", "x.pt"), ("open_clip", "x"), ("hf", "x")]
)
def test_nothing_is_overwritten_and_nothing_half_is_left(format, out, model, params, tmp_path):
    if out.endswith(".pt"):
        pytest.importorskip("torch")
    out = tmp_path / "sub" / out
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limit[1]))
    try:
        with pytest.raises(InputError, match=f"can't write {out}: .*[Ff]ile too large") as error:
            write(model, params, format, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "\n" not in str(error.value)
    assert not out.parent.exists()

    write(model, params, format, out)
    assert list(out.parent.iterdir()) == [out]
    before = {path: path.stat() for path in [out, *out.rglob("*")]}
    with pytest.raises(InputError, match="nothing is overwritten"):
        write(model, params, format, out)
    assert {path: path.stat() for path in [out, *out.rglob("*")]} == before


def test_a_pt_file_without_torch_names_the_extra(model, params, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"pip install 'lrsclip_jax\[torch\]'.*\.safetensors"):
        write(model, params, "longclip", tmp_path / "x.pt")
    assert not list(tmp_path.iterdir())


def test_all_formats_are_listed():
    assert FORMATS == ("longclip", "openai", "open_clip", "hf", "timm", "onnx", "jax")
