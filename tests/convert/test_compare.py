import io
import json
import shutil

import numpy as np
import pytest
import tiny_clip
from PIL import Image
from safetensors.numpy import load_file, save_file

import lrsclip_jax
from lrsclip_jax import heldout
from lrsclip_jax.convert import compare
from lrsclip_jax.convert.__main__ import main
from lrsclip_jax.convert.export import export
from lrsclip_jax.convert.reference import twin
from lrsclip_jax.data.prepared.records import Record
from lrsclip_jax.errors import InputError


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run-like source whose crop is CLIP's: an open_clip folder of 248 positions."""
    out = tmp_path_factory.mktemp("models") / "open_clip"
    model = tiny_clip.model(text={"context_length": 248})
    params = tiny_clip.parameters(model)
    export(model, params, tiny_clip.PREPROCESSING, format="open_clip", out=out, source="a test")
    return out


@pytest.fixture(scope="module")
def folder(source):
    """Its export for transformers."""
    out = source.parent / "hf"
    main(["export", str(source), "--format=hf", f"--out={out}"])
    return out


def run(capsys, *arguments):
    capsys.readouterr()
    status = main(["compare", *map(str, arguments)])
    return status, capsys.readouterr().out


@pytest.mark.slow
def test_transformers_computes_what_we_do(source, folder, capsys):
    pytest.importorskip("torch")
    status, said = run(capsys, source, f"--with={folder}", "--data=scenes:12:1", "--count=5")
    assert status == 0
    lines = said.splitlines()
    assert lines[0] == f"{source}: lrsclip_jax" and lines[1].startswith(f"{folder}: CLIPModel of transformers ")
    counts = {line[:11].strip(): line for line in lines if "   largest difference " in line}
    assert list(counts) == ["images", "long texts", "short texts"]
    assert [int(line[12:19]) for line in counts.values()] == [5, 5, 20]
    # The two are different programs: not a single difference is to the bit
    assert all(0 < float(line.split()[-1]) < 1e-5 for line in counts.values())
    assert "other pixels" not in said and "other tokens" not in said
    assert lines[-1].startswith("largest difference ") and lines[-1].endswith(": the same function")
    ours, theirs = said.split("\n\n")[2:4]  # both retrieval tables
    assert ours.splitlines()[0] == f"{source}: scenes:12:1, 5 images"
    assert ours.splitlines()[1:] == theirs.splitlines()[1:]


@pytest.mark.slow
def test_any_captioned_images_can_be_compared_on(source, tmp_path, capsys):
    rows = []
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append({"image": f"{number}.png", "captions": [f"scene {number}", "a scene"]})
    (tmp_path / "list.json").write_text(json.dumps(rows))
    status, said = run(capsys, source, f"--with={source}", f"--data={tmp_path / 'list.json'}")
    assert status == 0 and f"{source}: list.json, 3 images" in said
    (tmp_path / "list.json").write_text(json.dumps([*rows, {"image": "a.png"}]))
    with pytest.raises(InputError, match="list.json, record 4: no key 'long' or 'short' of the texts"):
        main(["compare", str(source), f"--with={source}", f"--data={tmp_path / 'list.json'}"])


@pytest.mark.slow
def test_another_function_is_told(source, folder, tmp_path, capsys):
    pytest.importorskip("torch")
    other = shutil.copytree(folder, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    tensors["text_model.encoder.layers.0.layer_norm1.bias"][7] += 0.01
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    status, said = run(capsys, source, f"--with={other}", "--data=scenes:3:1")
    assert status == 1
    assert said.endswith(": NOT the same function, more than 0.0001\n")


@pytest.mark.slow
def test_a_file_is_read_back_by_us_and_says_so(source, tmp_path, capsys):
    out = tmp_path / "model.safetensors"
    main(["export", str(source), "--format=longclip", f"--out={out}"])
    status, said = run(capsys, source, f"--with={out}", "--data=scenes:3:1")
    assert status == 1  # such a file has no mean and std, which are not CLIP's here
    assert f"{out}: read back by lrsclip_jax, not computed by PyTorch\n" in said
    assert (
        "long texts        3   largest difference 0.0e+00\nshort texts      12   largest difference 0.0e+00\n" in said
    )


@pytest.mark.slow
def test_what_their_processors_read_otherwise_is_counted(source, folder):
    pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    images, texts = [], ["a harbour", "a harbour &amp; a pier", "tree " * 300]
    for width in (32, 35, 36):  # transformers rounds half of 3 pixels down, CLIP to 2
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (32, width, 3), np.uint8)).save(file, "PNG")
        images.append(Record(id=str(width), source="a test", image=file.getvalue()))
    model = lrsclip_jax.load(source, batch_size=32)
    held = heldout.HeldOut(
        "a test", images, {"short": heldout.Texts(model.tokenizer.encode(texts), np.arange(3), texts)}
    )
    with pytest.warns(UserWarning, match="1 of 3 texts were cut"):
        pairs = compare.measure(held, compare.as_side("ours", model), twin(str(folder)))
    assert pairs["images"].same_input.tolist() == [True, False, True]
    assert pairs["short"].same_input.tolist() == [True, False, True]
    for pair in pairs.values():
        assert (pair.difference() < 1e-5).tolist() == pair.same_input.tolist()


def test_open_clip_computes_what_we_do(source):
    pytest.importorskip("open_clip")
    theirs, ours = twin(str(source)), compare.as_side("ours", lrsclip_jax.load(source))
    images = [Image.fromarray(image) for image in np.random.default_rng(0).integers(0, 256, (3, 35, 50, 3), np.uint8)]
    texts = ["a harbour &amp; a pier", "tree " * 100]
    for mine, other, batch in ((ours.images, theirs.images, images), (ours.texts, theirs.texts, texts)):
        np.testing.assert_allclose(mine.embed(batch), other.embed(batch), atol=1e-5, rtol=0)
        for one, same in zip(mine.inputs(batch), other.inputs(batch), strict=True):
            np.testing.assert_array_equal(one, same)


def test_two_models_of_other_sizes(source, tmp_path, capsys):
    tiny_clip.clip_folder(tmp_path / "wide", tiny_clip.model({"embed_dim": 8}, {"embed_dim": 8}))
    with pytest.raises(InputError, match="embed in 16 and 8 dimensions"):
        run(capsys, source, f"--with={tmp_path / 'wide'}", "--data=scenes:3:1")


def test_a_folder_that_transformers_cannot_load(source, folder, tmp_path, capsys):
    pytest.importorskip("torch")
    torn = shutil.copytree(folder, tmp_path / "torn")
    (torn / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"torn: transformers can't load it \(.+\)$"):
        run(capsys, source, f"--with={torn}", "--data=scenes:3:1")
