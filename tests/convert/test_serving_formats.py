"""Towers without this package: ONNX Runtime and a process with JAX alone give our embeddings."""

import dataclasses
import functools
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_clip
import tiny_siglip
import tokenizers
from PIL import Image

from lrsclip_jax.convert.__main__ import main
from lrsclip_jax.convert.export import export
from lrsclip_jax.convert.formats import jax_folder, onnx_folder
from lrsclip_jax.convert.formats.tokenizer_files import serving_tokenizer
from lrsclip_jax.data import tokenizer_file
from lrsclip_jax.data.preprocessing import IMAGENET_PREPROCESSING
from lrsclip_jax.data.tokenizer import fit, tokenizer_for
from lrsclip_jax.errors import InputError
from lrsclip_jax.models.pixels import normalise
from lrsclip_jax.models.vit import ViT

PLAIN = {"activation": "gelu", "norm_eps": 1e-6, "patch_bias": True, "pre_norm": False}
ROTARY = PLAIN | {"registers": 2, "rotary_base": 100.0}
MAP = PLAIN | {"activation": "gelu_tanh", "pool": "map"}
SIGLIP = {"kind": "siglip", "context_length": 16}
BERT = {"kind": "bert", "activation": "gelu", "norm_eps": 1e-12, "context_length": 100}
TOWERS = {
    "CLIP": ({"layers": 2}, {"layers": 2}),
    "MAE and BERT": (PLAIN | {"pool": "mean"}, BERT | {"layers": 2}),
    "DINOv2 and BERT's first token": (PLAIN | {"heads": 2, "layers": 2}, BERT | {"pool": "cls", "heads": 2}),
    "DINOv3 and CLIP": (ROTARY | {"heads": 2, "layers": 2}, {}),
    "SigLIP": (MAP | {"heads": 2, "layers": 2, "embed_dim": 64}, SIGLIP | {"heads": 2, "layers": 2, "embed_dim": 64}),
    "CLIP with GELU": ({"activation": "gelu", "mlp_width": 96}, {"activation": "gelu", "context_length": 248}),
    "gated DINOv3 and SigLIP 2": (ROTARY | {"gated": True, "activation": "silu"}, SIGLIP | {"pad_token": 0}),
    "SigLIP with a projection and CLIP": (MAP | {"mlp_width": 96}, {}),
}
SLOW = [*TOWERS][-2:]
PREPROCESSING = dataclasses.replace(IMAGENET_PREPROCESSING, size=32)
TEXTS = ["a harbour", "", "two “planes” next to a terminal & 3 cars", "runway " * 300, "Ein Flüßchen <|endoftext|>"]
SPECIAL = ["[SEP] <eos> next to </s>", "<pad>"]


@functools.cache
def siglip_tokenizer(kind):
    with tempfile.TemporaryDirectory() as folder:
        tiny_siglip.write_tokenizer(Path(folder), kind)
        return tokenizer_file.in_folder(Path(folder))


def written(format, out, image=None, text=None, **options):
    """Exports a tiny model, and returns it with its parameters."""
    text = text or {}
    if text.get("kind") == "siglip":
        options["tokenizer"] = siglip_tokenizer("siglip" if text.get("pad_token", 1) else "siglip2")
        text = text | {"vocab_size": options["tokenizer"].vocab_size}
    model = tiny_clip.model(image, text)
    params = tiny_clip.parameters(model)
    export(model, params, PREPROCESSING, format=format, out=out, source="a test", **options)
    return model, params


def pixels(batch):
    return np.random.default_rng(batch).integers(0, 256, (batch, 32, 32, 3), dtype=np.uint8)


def token_rows(model, batch, length):
    """Texts of several lengths, padded with zeros."""
    rng = np.random.default_rng(length)
    ids = rng.integers(1, min(20_000, model.text.vocab_size), (batch, length))
    for row, end in zip(ids, rng.integers(2, length, batch), strict=True):
        row[end:] = 0
        row[end] = getattr(model.text, "end_token", min(102, model.text.vocab_size - 1))
    return ids


def embedded(model, params, method, batch):
    @jax.jit  # one program: step by step each operation would be compiled by itself
    def rows(batch):
        batch = normalise(batch, PREPROCESSING) if method == "encode_image" else batch
        return model.apply({"params": params}, batch, method=method)

    return np.asarray(rows(batch))


@pytest.fixture(scope="module")
def onnxruntime():
    return pytest.importorskip("onnxruntime")


@pytest.mark.parametrize(
    ("name", "opset"),
    [
        *((name, 17) for name in TOWERS if name not in SLOW),
        *(pytest.param(name, 21, marks=pytest.mark.exhaustive) for name in ("CLIP", *SLOW)),
    ],
)
def test_onnx_runtime_gives_our_embeddings(name, opset, onnxruntime, tmp_path):
    model, params = written("onnx", tmp_path / "x", *TOWERS[name], opset=opset)
    image, text = (onnxruntime.InferenceSession(tmp_path / "x" / f"{tower}.onnx") for tower in ("image", "text"))
    ours = embedded(model, params, "encode_image", pixels(5))
    for batch in (1, 5):
        (rows,) = image.run(["image_embeddings"], {"images": pixels(5)[:batch]})
        np.testing.assert_allclose(rows, ours[:batch], atol=1e-5)
    for length in (8, model.text.context_length):
        ids = token_rows(model, 5, length)
        ours = embedded(model, params, "encode_text", ids)
        for batch in (1, 5):
            (rows,) = text.run(["text_embeddings"], {"ids": ids[:batch]})
            np.testing.assert_allclose(rows, ours[:batch], atol=1e-5)
    with pytest.raises(Exception, match="Add"):  # and not the embedding of its beginning
        text.run(None, {"ids": token_rows(model, 1, model.text.context_length + 1)})
    about = json.loads((tmp_path / "x" / "model.json").read_text())
    assert about["runtime"] == {"format": "ONNX", "opset": opset, "weights": "float32"}
    assert about["logit_scale"] == pytest.approx(np.exp(params["logit_scale"]))


def test_weights_beyond_what_a_protobuf_holds_stand_next_to_it(onnxruntime, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_folder, "_LARGEST", 1000)
    model, params = written("onnx", tmp_path / "x")
    assert (
        (tmp_path / "x" / "image.onnx").stat().st_size < 1 << 16 < (tmp_path / "x" / "image.onnx.data").stat().st_size
    )
    (tmp_path / "x").rename(tmp_path / "moved")
    (rows,) = onnxruntime.InferenceSession(tmp_path / "moved" / "image.onnx").run(None, {"images": pixels(2)})
    np.testing.assert_allclose(rows, embedded(model, params, "encode_image", pixels(2)), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "length"), [("transformer", 77), ("bert", 100), ("siglip", 16), ("siglip2", 16), ("siglip", 64)]
)
def test_the_tokenizer_next_to_the_towers_makes_our_rows(kind, length, tmp_path):
    ours = siglip_tokenizer(kind) if "siglip" in kind else tokenizer_for(kind)
    serving_tokenizer(ours, length).save(str(tmp_path / "tokenizer.json"))
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    expected = [fit(ids, length, ours.end, ours.pad) for ids in ours.encode(TEXTS + SPECIAL)]
    rows = theirs.encode_batch(TEXTS + SPECIAL)
    np.testing.assert_array_equal([row.ids for row in rows], expected)
    tokens = [min(len(ids), length) for ids in ours.encode(TEXTS + SPECIAL)]
    assert [sum(row.attention_mask) for row in rows] == tokens


_ALONE = """
import json, pathlib, sys
for name in ("lrsclip_jax", "eval", "flax", "tokenizers", "safetensors"):
    sys.modules[name] = None
import numpy as np, jax
from jax import export
folder = pathlib.Path(sys.argv[1])
about = json.loads((folder / "model.json").read_text())
def tower(side, file):
    call = jax.jit(export.deserialize(bytearray((folder / file).read_bytes())).call)
    weights = dict(np.load(folder / about[side]["weights"]))
    return lambda batch: np.asarray(call(weights, batch))
image, given, found = tower("image", about["image"]["file"]), np.load(folder / "given.npz"), {}
for name, batch in given.items():
    text = about["text"]["files"].get(str(batch.shape[1]))
    found[name] = image(batch) if name.startswith("images") else tower("text", text)(batch)
np.savez(folder / "found.npz", **found)
"""


@pytest.mark.parametrize(
    "name", ["CLIP", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in [*TOWERS][1:5])]
)
def test_a_process_with_jax_alone_gives_our_embeddings(name, tmp_path):
    pytest.importorskip("flatbuffers")
    model, params = written("jax", tmp_path / "x", *TOWERS[name])
    about = json.loads((tmp_path / "x" / "model.json").read_text())
    assert about["runtime"]["jax"] == jax.__version__ and about["runtime"]["platforms"] == ["cpu", "cuda", "tpu"]
    given = {f"images_{batch}": pixels(batch) for batch in (1, 5)}
    lengths = [int(length) for length in about["text"]["files"]]
    assert lengths[-1] == model.text.context_length and lengths[0] == (16 if name == "SigLIP" else 32)
    for length in (lengths[0], lengths[-1]):
        given[f"ids_{length}"] = token_rows(model, 3, length).astype(np.int32)
    np.savez(tmp_path / "x" / "given.npz", **given)
    subprocess.run([sys.executable, "-c", _ALONE, tmp_path / "x"], check=True, cwd=tmp_path)
    found = np.load(tmp_path / "x" / "found.npz")
    for key, batch in given.items():
        method = "encode_image" if key.startswith("images") else "encode_text"
        np.testing.assert_allclose(found[key], embedded(model, params, method, batch), atol=1e-5)


@pytest.mark.parametrize(
    ("format", "folder"),
    [
        ("onnx", tiny_clip.clip_folder),
        pytest.param("jax", tiny_clip.clip_folder, marks=pytest.mark.exhaustive),
        pytest.param("onnx", tiny_siglip.siglip_folder, marks=pytest.mark.exhaustive),
    ],
)
def test_compare_computes_a_folder_by_its_own_runtime(format, folder, onnxruntime, tmp_path, capsys):
    pytest.importorskip("flatbuffers")
    folder(tmp_path / "clip")
    main(["export", str(tmp_path / "clip"), f"--format={format}", f"--out={tmp_path / 'x'}"])
    images = tmp_path / "images"
    images.mkdir()
    rows = []
    for number, text in enumerate(TEXTS[:1] + TEXTS[3:]):
        Image.fromarray(pixels(number + 1)[0]).resize((50, 39)).save(images / f"{number}.png")
        rows.append(json.dumps({"image": f"{number}.png", "short": text}))
    (images / "captions.jsonl").write_text("\n".join(rows))
    arguments = [str(tmp_path / "clip"), f"--with={tmp_path / 'x'}", f"--data={images / 'captions.jsonl'}"]
    capsys.readouterr()
    assert main(["compare", *arguments]) == 0
    said = capsys.readouterr().out
    assert {"onnx": "onnxruntime", "jax": "jax.export"}[format] in said and "from other" not in said

    (tmp_path / "x" / {"onnx": "image.onnx", "jax": "image.jax"}[format]).write_bytes(b"torn")
    with pytest.raises(InputError, match="it can't be loaded"):
        main(["compare", *arguments])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"opset": 16}, r"^--opset=16 is too old: write 17 to \d+$"),
        ({"opset": 999}, r"^--opset=999 is newer than onnx [\d.]+: write 17 to \d+$"),
        ({"image": {"adapt": (("mlp", None),)}}, "its image tower has adapt"),
        ({"text": {"vocab_size": 100}}, "has 100 tokens"),
        ({"image": MAP, "text": {"kind": "siglip", "adapt": (("mlp", None),)}}, "its text tower has adapt"),
    ],
)
def test_what_onnx_can_not_say_is_refused(options, reason, onnxruntime, tmp_path):
    with pytest.raises(InputError, match=reason):
        written("onnx", tmp_path / "x", **options)
    assert not list(tmp_path.iterdir())


def test_a_tower_that_is_not_listed_is_refused(onnxruntime, tmp_path):
    class Newer(ViT):
        memory: int = 0

    model = tiny_clip.model()
    params = tiny_clip.parameters(model)
    fields = {field.name: getattr(model.image, field.name) for field in dataclasses.fields(model.image)}
    newer = model.clone(image=Newer(**{name: fields[name] for name in fields if name not in ("parent", "name")}))
    more = params | {"image": params["image"] | {"memory": np.zeros(3, np.float32)}}
    for its_model, its_params, reason in ((newer, params, "is a Newer"), (model, more, "memory has no place")):
        with pytest.raises(InputError, match=reason):
            export(its_model, its_params, PREPROCESSING, format="onnx", out=tmp_path / "x", source="a test")
    assert not list(tmp_path.iterdir())


def test_a_tower_that_wants_a_known_batch_is_refused_by_jax(tmp_path, monkeypatch):
    pytest.importorskip("flatbuffers")
    monkeypatch.setattr(jax_folder, "unit", lambda rows: rows.reshape(len(rows), -1))
    with pytest.raises(InputError, match=r"^--format=jax can't write image.jax for batches of any size: .*_DimExpr"):
        written("jax", tmp_path / "x")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("format", "module", "extra"), [("onnx", "onnx", "onnx"), ("jax", "flatbuffers", "jax-export")]
)
def test_a_missing_package_names_its_extra(format, module, extra, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"^{module} is missing: pip install 'lrsclip_jax\[{extra}\]'$"):
        written(format, tmp_path / "x")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("format", "needs"), [("onnx", "onnxruntime"), ("jax", "flatbuffers")])
def test_nothing_is_overwritten_and_nothing_half_is_left_of_towers(format, needs, tmp_path):
    pytest.importorskip(needs)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limit[1]))
    try:
        with pytest.raises(InputError, match=f"can't write {tmp_path / 'x'}: .*[Ff]ile too large"):
            written(format, tmp_path / "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not list(tmp_path.iterdir())
    written(format, tmp_path / "x")
    with pytest.raises(InputError, match="nothing is overwritten"):
        written(format, tmp_path / "x")


def test_options_of_onnx_are_refused_with_other_formats(tmp_path):
    for option in ("--opset=17", "--int8"):
        with pytest.raises(InputError, match=f"^{option.partition('=')[0]} is of --format=onnx, not of --format=hf$"):
            main(["export", str(tmp_path / "none"), "--format=hf", f"--out={tmp_path / 'x'}", option])


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("MAE and BERT", None),
        pytest.param("MAE and BERT", 1000, marks=pytest.mark.slow),
        *(pytest.param(name, None, marks=pytest.mark.slow) for name in ("DINOv3 and CLIP", SLOW[1])),
    ],
)
def test_weights_of_8_bits_are_small_and_near(name, limit, onnxruntime, tmp_path, monkeypatch):
    written("onnx", tmp_path / "float32", *TOWERS[name])
    monkeypatch.setattr(onnx_folder, "_LARGEST", limit or onnx_folder._LARGEST)
    model, params = written("onnx", tmp_path / "int8", *TOWERS[name], int8=True)
    sizes = [sum(file.stat().st_size for file in (tmp_path / name).glob("*.onnx*")) for name in ("float32", "int8")]
    assert sizes[1] < 0.3 * sizes[0] and not [file for file in (tmp_path / "int8").iterdir() if file.is_dir()]
    image, text = (onnxruntime.InferenceSession(tmp_path / "int8" / f"{tower}.onnx") for tower in ("image", "text"))
    ids = token_rows(model, 5, 32)
    for method, batch, rows in (
        ("encode_image", pixels(5), image.run(None, {"images": pixels(5)})[0]),
        ("encode_text", ids, text.run(None, {"ids": ids})[0]),
    ):
        cosines = np.sum(rows * embedded(model, params, method, batch), axis=1)
        assert 0.97 < cosines.min() and not np.allclose(cosines, 1, atol=1e-6)
    assert json.loads((tmp_path / "int8" / "model.json").read_text())["runtime"]["weights"] == "int8"
