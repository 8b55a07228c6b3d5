"""The line between two checkpoints: its ends are the checkpoints, its points their means, its best point opens."""

import json
import shutil

import jax
import numpy as np
import pytest
import tiny_clip

from lrsclip_jax import cli, pretrained, weights
from lrsclip_jax import config as configs
from lrsclip_jax.adapters import base
from lrsclip_jax.convert.export import export
from lrsclip_jax.data.tokenizer import tokenizer_for
from lrsclip_jax.errors import InputError
from lrsclip_jax.interpolate.__main__ import _alphas, main
from lrsclip_jax.interpolate.line import Ends
from lrsclip_jax.interpolate.outputs import best_of, table
from lrsclip_jax.run import checkpoint, workdir

DATA = "scenes:12:1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("line")
    for name, seed in (("a", 0), ("b", 1)):
        tiny_clip.clip_folder(folder / name, seed=seed)
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    out = folder / "out"
    main([str(folder / "a"), str(folder / "b"), f"--data={DATA}", "--alphas=0:1:0.5", f"--out={out}"])
    return out


def points(out):
    return json.loads((out / "interpolation.json").read_text())["points"]


@pytest.mark.exhaustive
def test_the_ends_of_the_line_score_as_embed_and_evaluate_say(folder, whole, tmp_path, capsys):
    measured = {}
    for alpha, name in (("0.0", "a"), ("1.0", "b")):
        cli.main(["embed", DATA, f"--checkpoint={folder / name}", f"--out={tmp_path / name}"])
        cli.main(["evaluate", str(tmp_path / name), f"--out={tmp_path / 'results'}", "--processes=1"])
        of = tmp_path / "results/results" / name / "scenes"
        read = {task: json.loads((of / f"{task}.json").read_text()) for task in ("retrieval_short", "zeroshot")}
        measured[alpha] = read
        scores = points(whole)[alpha]
        assert scores[f"{DATA}/short"] == pytest.approx(read["retrieval_short"]["mean_recall"])
        assert scores[f"{DATA}/zeroshot"] == pytest.approx(read["zeroshot"]["accuracy"])
    assert measured["0.0"] != measured["1.0"]


@pytest.mark.exhaustive
def test_lora_is_merged_and_other_adapters_are_refused(folder, tmp_path):
    fields = {"width": 64, "layers": 1, "heads": 1, "embed_dim": 16}
    keys = [f"model.{tower}.{key}={value}" for tower in ("image", "text") for key, value in fields.items()]
    keys += ["model.image.size=32", "model.image.patch=16", "data.long_length=77"]
    for name, rule in (("lora", "'.*', 'lora', 2"), ("prefix", "'.*', 'prefix', 2")):
        adapted = ("model.text.context_length=77", f"model.init={folder / 'a'}", f"model.adapt=(({rule}),)")
        config = configs.load("configs/quickstart.py", [*keys, *adapted])
        model = weights.build_model(config)
        params, preprocessing = weights.initial_parameters(model, config)
        drawn = jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(0.1), base.adapters(params))
        about = checkpoint.metadata(config, preprocessing, tokenizer_for("transformer"), params)
        run = workdir.new(str(tmp_path / name))
        checkpoint.write(run, base.trained(about, base.joined(params, drawn)), about)
        workdir.write_config(run, config)
    ends = Ends.of(str(folder / "a"), str(tmp_path / "lora"), dtype="float32", batch_size=4)
    apart, texts = pretrained.load(str(tmp_path / "lora"), dtype="float32"), ["a pond", "two ponds"]
    np.testing.assert_allclose(ends.at(1.0).texts(texts), apart.texts(texts), atol=1e-6)
    assert np.abs(ends.at(0.0).texts(texts) - apart.texts(texts)).max() > 1e-3
    with pytest.raises(InputError, match="prefixes in its image tower, which no plain model can express"):
        Ends.of(str(folder / "a"), str(tmp_path / "prefix"), dtype="float32", batch_size=4)


def test_a_point_is_the_mean_of_both_weights_and_the_best_one_is_a_checkpoint(folder, whole):
    scores = points(whole)
    best = max(sorted(scores), key=lambda alpha: np.mean(list(scores[alpha].values())))
    found = weights.read(str(whole / "best")).params
    before, after = (weights.read(str(folder / name)).params for name in ("a", "b"))
    share = float(best)
    expected = jax.tree.map(lambda a, b: (1 - share) * a + share * b, before, after)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected)
    half = Ends.of(str(folder / "a"), str(folder / "b"), dtype=None, batch_size=4).at(0.5)
    np.testing.assert_allclose(half.logit_scale, np.exp((before["logit_scale"] + after["logit_scale"]) / 2), rtol=1e-5)
    assert pretrained.load(str(whole / "best")).texts(["a pier"]).shape == (1, 16)
    assert f"alpha = {float(best):g}." in (whole / "report.html").read_text()


def test_started_again_it_scores_only_what_is_missing(folder, whole, monkeypatch, capsys):
    scored = []
    monkeypatch.setattr(
        "lrsclip_jax.interpolate.line.scores_at",
        lambda model, sets, alpha: scored.append(alpha) or dict.fromkeys(points(whole)["0.0"], 1.0),
    )
    main([str(folder / "a"), str(folder / "b"), f"--data={DATA}", "--alphas=0,0.25,1", f"--out={whole}"])
    assert scored == [0.25] and [*points(whole)] == ["0.0", "0.25", "0.5", "1.0"]
    assert capsys.readouterr().out.count("*") == 1


def test_the_weights_before_are_made_to_fit_as_training_does(folder, tmp_path):
    model = tiny_clip.model(text={"context_length": 100})
    export(model, tiny_clip.parameters(model), tiny_clip.PREPROCESSING, format="hf", out=tmp_path / "long", source="a")
    ends = Ends.of(str(folder / "a"), str(tmp_path / "long"), dtype=None, batch_size=4)
    assert ends.before["text"]["position_embedding"].shape == (100, 64)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0:1:0.25", (0, 0.25, 0.5, 0.75, 1)), ("0:1:0.1", tuple(n / 10 for n in range(11))), ("1,0,.5", (0, 0.5, 1))],
)
def test_points_are_named_by_a_range_or_one_by_one(text, expected):
    assert _alphas(text) == expected


@pytest.mark.parametrize("text", ["0:1:0", "1:0:0.1", "0:1:1e-9", "0:1:0.0000001", "0,2", "", "nan", "0:1", "-1,0"])
def test_other_points_are_one_clear_line(text, capsys):
    with pytest.raises(InputError, match="from 0 to 1 as 0:1:0.1"):
        main(["a", "b", "--data=c", f"--alphas={text}"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "--data=DATA"], "1 checkpoints: two are expected"),
        (["a", "b", "--data=DATA", "--data=DATA"], "two sets are called"),
        (["a", "b", "--data=DATA", "--best=shrot"], "--best=shrot is no score"),
        (["a", "nowhere", "--data=DATA"], "nowhere"),
        (["wide", "b", "--data=DATA"], "its text tower has width 32, mlp_width 128, the model 64, 256"),
        (["grey", "b", "--data=DATA"], "they can't see the same images"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(folder, tmp_path, words, message):
    wide = tiny_clip.model(text={"width": 32})
    other = tiny_clip.Preprocessing(32, mean=(0.1,) * 3, std=(0.2,) * 3)
    for name, model, seen in (("wide", wide, tiny_clip.PREPROCESSING), ("grey", tiny_clip.model(), other)):
        if name in words:
            export(model, tiny_clip.parameters(model), seen, format="hf", out=tmp_path / name, source="a")
    places = {"a": folder / "a", "b": folder / "b", "wide": tmp_path / "wide", "grey": tmp_path / "grey"}
    with pytest.raises(InputError, match=message) as error:
        main([str(places.get(word, word)).replace("DATA", DATA) for word in words])
    assert "\n" not in str(error.value)


def test_a_folder_of_another_line_is_left_alone(folder, whole, tmp_path):
    with pytest.raises(InputError, match="holds a line of other checkpoints, weights"):
        main([str(folder / "b"), str(folder / "b"), f"--data={DATA}", "--alphas=0", f"--out={whole}"])
    (tmp_path / "own.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds other files \(own.txt\)"):
        main(["a", "b", "--data=c", f"--out={tmp_path}"])


def test_a_torn_file_of_points_is_one_clear_line(folder, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "torn")
    file = tmp_path / "torn/interpolation.json"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(InputError, match=r"interpolation.json: .*remove this file, and all points are scored again"):
        main([str(folder / "a"), str(folder / "b"), f"--data={DATA}", "--alphas=0", f"--out={tmp_path / 'torn'}"])


def test_the_table_marks_the_best_by_a_score_or_by_the_mean():
    scores = {0.0: {"a/short": 10.0, "b/zeroshot": 80.0}, 0.5: {"a/short": 30.0, "b/zeroshot": 70.0}}
    scores[1.0] = {"a/short": 35.0, "b/zeroshot": 20.0}
    assert (best_of(scores, None), best_of(scores, "a/short"), best_of(scores, "b/zeroshot")) == (0.5, 1.0, 0.0)
    assert [line.endswith("*") for line in table(scores, 0.5, None)] == [False, False, True, False]
