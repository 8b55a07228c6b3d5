import json
import os
import re
import shutil

import jax
import numpy as np
import pytest
import tiny_clip
from bad_files import refused
from safetensors.numpy import load_file, save_file

import lrsclip_jax
from lrsclip_jax import weights
from lrsclip_jax.convert.__main__ import main
from lrsclip_jax.errors import InputError, cli
from lrsclip_jax.models import zoo
from lrsclip_jax.models.positions import resize_positions, stretch_positions
from lrsclip_jax.pytorch.contract import Hints
from lrsclip_jax.run import checkpoint_reader


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with a CLIP for transformers, a MAE and a BERT, and their parameters."""
    folder = tmp_path_factory.mktemp("models")
    params = tiny_clip.clip_folder(folder / "clip")
    return folder, params, tiny_clip.mae_file(folder), tiny_clip.bert_file(folder)


def equal(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_an_import_says_what_it_found_and_is_a_run(models, tmp_path, capsys):
    source, params = models[0] / "clip", models[1]
    main(["import", str(source), f"--workdir={tmp_path / 'run'}", "--context-length=248"])
    said = capsys.readouterr().out
    for line in (
        f"image tower: 0.1 M parameters, Hugging Face CLIPModel, from {source}",
        "    heads 1: config.json",
        "    activation quick_gelu: config.json",
        "    context_length 248: position table stretched from 77",
        "preprocessing (preprocessor_config.json): shorter side to 32, bicubic, central square; "
        "mean 0.5 0.4 0.3, std 0.2 0.3 0.4",
        "tokenizer: clip, 49,408 ids",
        f"model: custom, 3.3 M parameters, logit_scale {np.exp(params['logit_scale']):.2f}",
    ):
        assert line in said.splitlines()
    assert "drawn at random" not in said and said.splitlines()[-1].startswith("imported 3.3 M parameters in ")

    expected = params | {"text": dict(params["text"])}
    expected["text"]["position_embedding"] = stretch_positions(params["text"]["position_embedding"])
    equal(weights.read(str(tmp_path / "run")).params, expected)
    config = json.loads((tmp_path / "run" / "config.json").read_text())["model"]
    assert (config["name"], config["init"], config["text"]["context_length"]) == ("custom", str(source), 248)
    texts, images = ["a harbour", "a forest"], np.random.default_rng(0).integers(0, 256, (2, 40, 35, 3), np.uint8)
    ours, theirs = lrsclip_jax.load(tmp_path / "run"), lrsclip_jax.load(source)
    assert ours.context_length == 248 and ours.preprocessing == theirs.preprocessing
    np.testing.assert_array_equal(ours.images(images), theirs.images(images))
    np.testing.assert_array_equal(ours.texts(texts), theirs.texts(texts))  # the first 20 positions stay


def test_a_source_whose_name_is_no_utf8_is_imported_and_weights_that_are_not_finite_are_not(models, tmp_path):
    source = shutil.copytree(models[0] / "clip", tmp_path / "cl\udcffip")
    main(["import", str(source), f"--workdir={tmp_path / 'run'}"])
    config = json.loads((tmp_path / "run" / "config.json").read_text())["model"]
    assert config["init"] == f"{tmp_path}/cl?ip"
    read = checkpoint_reader.load_params
    run = str(tmp_path / "run")

    def diverged(*arguments):
        params = read(*arguments)
        return params | {"logit_scale": params["logit_scale"] * np.nan}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint_reader, "load_params", diverged)
        refused(lambda: weights.read(run), "checkpoints/0: logit_scale holds NaN")
    weights.read(run)


@pytest.mark.slow
def test_two_towers_meet_in_new_projections(models, tmp_path, capsys):
    folder, _, image, text = models
    sources = [f"--image={folder / 'mae.safetensors'}", f"--text={folder / 'bert.safetensors'}"]
    options = ["--image-heads=1", "--text-heads=1", "--size=64", "--context-length=40", "--embed-dim=24"]
    for name, seed in (("one", 0), ("other", 5)):
        main(["import", *sources, *options, f"--workdir={tmp_path / name}", f"--seed={seed}"])
    said = capsys.readouterr().out
    assert "drawn at random or by default, to be trained: image/projection, text/projection, logit_scale" in said
    assert "    size 64: position table resized from 32" in said
    assert "    context_length 40: position table cut from 100" in said

    found, other = (weights.read(str(tmp_path / name)).params for name in ("one", "other"))
    for tower, its in (("image", image), ("text", text)):
        projection = found[tower].pop("projection")["kernel"]
        assert projection.shape == (64, 24) and 0.9 < projection.std() * 64**0.5 < 1.1
        assert not np.array_equal(projection, other[tower]["projection"]["kernel"])
        its = {name: value for name, value in its.items() if name != "projection"}
        if tower == "image":
            its["position_embedding"] = resize_positions(its["position_embedding"], 4, antialias=False)
        else:
            its["position_embedding"] = its["position_embedding"][:40]
        equal(found[tower], its)
    assert np.exp(found["logit_scale"]) == pytest.approx(1 / 0.07)


def test_a_projection_stays_where_its_width_does(models, tmp_path, capsys):
    folder, params = models[:2]
    sources = [f"--image={folder / 'mae.safetensors'}", f"--text={folder / 'clip'}"]
    main(["import", *sources, "--image-heads=1", f"--workdir={tmp_path / 'run'}"])
    assert "to be trained: image/projection, logit_scale\n" in capsys.readouterr().out
    equal(weights.read(str(tmp_path / "run")).params["text"], params["text"])


def test_names_of_the_zoo_are_found(tmp_path, capsys):
    model = zoo.create("tiny")
    tiny_clip.clip_folder(tmp_path / "clip", model)
    main(["import", str(tmp_path / "clip"), "--context-length=100", f"--workdir={tmp_path / 'run'}"])
    assert "\nmodel: tiny, 3.4 M parameters" in capsys.readouterr().out


def test_an_import_stretches_as_it_is_told_and_its_config_says_how(models, tmp_path):
    options = ["--context-length=248", "--keep=0", "--ratio=6", f"--workdir={tmp_path / 'run'}"]
    main(["import", str(models[0] / "clip"), *options])
    found = weights.read(str(tmp_path / "run")).params["text"]["position_embedding"]
    table = np.asarray(models[1]["text"]["position_embedding"])
    np.testing.assert_array_equal(found, stretch_positions(table, keep=0, ratio=6)[:248])
    text = json.loads((tmp_path / "run" / "config.json").read_text())["model"]["text"]
    assert (text["keep"], text["ratio"]) == (0, 6)


def test_unused_tensors_are_listed(models, tmp_path, capsys):
    path = tmp_path / "bert.safetensors"
    heads = {f"cls.predictions.{number}": np.zeros(1, np.float32) for number in range(12)}
    save_file(load_file(models[0] / "bert.safetensors") | heads, path)
    options = [f"--image={models[0] / 'mae.safetensors'}", "--image-heads=1", "--text-heads=1"]
    main(["import", *options, f"--text={path}", f"--workdir={tmp_path / 'run'}"])
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("not used of"))
    assert line.startswith(f"not used of {path} (12): cls.predictions.0, ") and line.endswith(" and 2 more")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", "{clip}", "--image={clip}"], "give one SRC, or a source for each tower"),
        (["import", "--image={clip}"], "give one SRC, or a source for each tower"),
        (["import"], "give one SRC, or a source for each tower"),
        (["import", "{clip}", "--context-length=0"], "--context-length=0: expected a whole number from 2 to 65536"),
        (["import", "{clip}", "--keep=20"], "--keep and --ratio say how .*: give --context-length, too"),
        (["import", "{clip}", "--context-length=248", "--ratio=2"], "ratio 2, fewer than 248: the ratio must be 4"),
        (["import", "{clip}", "--embed-dim=0"], "--embed-dim=0: expected a whole number from 1 to"),
        (["import", "{clip}", "--size=40"], "image tower: size 40 is not a multiple of patch 16"),
        (["import", "{clip}/none"], "no file or folder .*none"),
        (["import", "{clip}", "--activation=gelu"], "config.json says quick_gelu, --activation says gelu"),
        (["import", "{bert}"], "--text-heads"),
        (["import", "{bert}", "--text-heads=1"], r"\(BERT\) has no image tower: .* --text={bert} --image=SRC"),
        (
            ["import", "--image={clip}", "--text={wide}"],
            "projects to 16 dimensions, .*wide to 8: choose with --embed-dim",
        ),
        (["import", "{torn}"], "torn.safetensors"),
        (["export", "{clip}/none", "--format=hf", "--out={out}"], "no file or folder"),
        (["export", "{bert}", "--text-heads=1", "--format=hf", "--out={out}"], "lacks an image tower"),
        (
            ["export", "{clip}", "--format=longclip", "--out={out}.safetensors"],
            "has 77 positions, .*--context-length=248",
        ),
        (
            ["compare", "{clip}", "--with={clip}", "--data=scenes:4:1", "--count=0"],
            "--count=0: expected a whole number from 1",
        ),
        (["compare", "{clip}", "--with={clip}/none", "--data=scenes:4:1"], "no file or folder"),
        (["compare", "{clip}", "--with={clip}", "--data={clip}/none"], "none"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(models, tmp_path, arguments, message):
    folder = models[0]
    names = {"clip": folder / "clip", "bert": folder / "bert.safetensors", "torn": tmp_path / "torn.safetensors"}
    names |= {"wide": tmp_path / "wide", "out": tmp_path / "out"}
    if "{wide}" in " ".join(arguments):
        tiny_clip.clip_folder(names["wide"], tiny_clip.model({"embed_dim": 8}, {"embed_dim": 8}))
    names["torn"].write_bytes((folder / "bert.safetensors").read_bytes()[:-100])
    before = files(tmp_path)
    line = [argument.format(**names) for argument in arguments]
    with pytest.raises(InputError, match=message.format(**names)) as error:
        main(line + ([f"--workdir={tmp_path / 'run'}"] if line[0] == "import" else []))
    assert "\n" not in str(error.value)
    assert files(tmp_path) == before and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("left", "message"),
    [
        ("notes.txt", "holds something already, and nothing is overwritten"),
        ("checkpoints/60/params/a", "holds something already, and nothing is overwritten"),
        ("checkpoints/0/optimizer/a", "holds something already, and nothing is overwritten"),
    ],
)
def test_nothing_is_overwritten(models, tmp_path, left, message):
    (tmp_path / left).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / left).write_text("mine")
    with pytest.raises(InputError, match=message):
        main(["import", str(models[0] / "clip"), f"--workdir={tmp_path}"])
    assert list(files(tmp_path)) == [tmp_path / left]


@pytest.mark.slow
@pytest.mark.parametrize("left", ["0.orbax-checkpoint-tmp/params/a", "0/params/a"])
def test_an_import_that_was_killed_begins_again(models, tmp_path, left):
    """config.json is written last: without it, checkpoint 0 is of an import that was stopped."""
    clip = str(models[0] / "clip")
    main(["import", clip, f"--workdir={tmp_path / 'whole'}"])
    again = tmp_path / "again/checkpoints" / left
    again.parent.mkdir(parents=True)
    again.write_text("half")
    (tmp_path / "again/.lock").write_text('{"command":"","host":"","boot":"","process":1,"since":""}')
    os.utime(tmp_path / "again/.lock", (1, 1))
    (tmp_path / "again/.config.json.0123abcd.incomplete").write_text("{")
    main(["import", clip, f"--workdir={tmp_path / 'again'}"])
    whole, again = (
        {re.sub("[0-9a-f]{32}", "RANDOM", str(path.relative_to(folder))) for path in folder.rglob("*")}
        for folder in (tmp_path / "whole", tmp_path / "again")
    )
    assert again == whole


def test_a_full_disk_is_one_line(models, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("lrsclip_jax.run.checkpoint.ocp.save_checkpointables", full)
    with pytest.raises(InputError, match=r"can't write .*run/checkpoints/0 \(no space left on device"):
        main(["import", str(models[0] / "clip"), f"--workdir={tmp_path / 'run'}"])


@pytest.mark.slow
@pytest.mark.parametrize("format", ["hf", "open_clip", "openai"])
def test_an_export_is_read_back(models, tmp_path, capsys, format):
    out = tmp_path / ("folder" if format == "hf" else "model.safetensors")
    arguments = ["export", str(models[0] / "clip"), f"--format={format}", f"--out={out}"]
    main(arguments)
    assert str(out) in capsys.readouterr().out
    equal(weights.read(str(out), Hints(activation="quick_gelu", image_heads=1, text_heads=1)).params, models[1])
    before = files(tmp_path)
    with pytest.raises(InputError, match="nothing is overwritten"):
        main(arguments)
    assert files(tmp_path) == before


def test_the_command_line_itself(capsys):
    for arguments in (
        [],
        ["import", "a"],
        ["export", "a", "--format=torchscript", "--out=b"],
        ["import", "a", "--work=b"],
    ):
        with pytest.raises(InputError, match="convert .*--help"):
            main(arguments)
    for command in ("import", "export", "compare"):
        with pytest.raises(SystemExit) as exit:
            main([command, "--help"])
        assert exit.value.code == 0 and "examples:" in capsys.readouterr().out
    with pytest.raises(SystemExit) as exit:
        cli(lambda: main(["import", "none.pt", "--workdir=none"]))
    assert exit.value.code == 2 and capsys.readouterr().err == "error: there is no file or folder none.pt\n"
