"""The command that writes embedding sets: its rows against the door's, and what stops it on the way."""

import contextlib
import dataclasses
import functools
import json
import os
import shutil

import jax
import numpy as np
import pytest
import tiny_clip
from PIL import Image

import lrsclip_jax
from eval.embeddings import check_set, open_set
from eval.sentences import shuffled
from eval.suite import task_runs
from eval.text_sentences import sentence_effects
from lrsclip_jax import pretrained
from lrsclip_jax.data.images import read_image
from lrsclip_jax.data.prepare.__main__ import main as prepare
from lrsclip_jax.data.prepared.opening import open_records
from lrsclip_jax.embed import parts, set_writer
from lrsclip_jax.embed.__main__ import main
from lrsclip_jax.embed.material import open_material
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.models.positions import resize_positions
from lrsclip_jax.pytorch.contract import Hints

ABOUT = {"model": "m", "dataset": "d", "split": None, "features": "projected"}
CAPTIONS = {"a.png": ["A pier.", "Two boats at a long pier."], "b.png": ["A forest."], "c.png": ["Some fields."]}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A checkpoint, class folders, and a list of captions in Karpathy's form."""
    root = tmp_path_factory.mktemp("world")
    tiny_clip.clip_folder(root / "clip")
    rng = np.random.default_rng(0)
    for number in range(7):
        folder = root / "classes" / ("bare_land" if number % 2 else "BaseballField")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(folder / f"{number}.png")
    (root / "images").mkdir()
    for name in CAPTIONS:
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(root / "images" / name)
    rows = [
        {
            "filename": name,
            "split": "train" if name == "c.png" else "test",
            "sentences": [{"raw": text} for text in texts],
        }
        for name, texts in CAPTIONS.items()
    ]
    (root / "captions.json").write_text(json.dumps({"images": rows}))
    return root


@pytest.fixture(scope="module")
def model(world):
    return lrsclip_jax.load(world / "clip", batch_size=4)


@pytest.fixture(scope="module")
def pairs(world):
    """The same model, which embeds two images or texts at a time."""
    return pretrained.load(world / "clip", batch_size=2)


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(set_writer, "PART", 2)


def embed(world, out, data, *options):
    main([f"--checkpoint={world / 'clip'}", f"--data={data}", f"--out={out}", "--batch-size=4", *options])
    return open_set(out)


@pytest.mark.slow
def test_class_folders_become_labelled_images_and_class_texts(world, model, tmp_path):
    made = embed(world, tmp_path / "s", world / "classes", "--templates=rsclip", "--templates=a {} from above")
    files = sorted((world / "classes").rglob("*.png"))
    np.testing.assert_allclose(made.images, model.images(files), atol=1e-6)
    assert [row["id"] for row in made.image_rows] == [str(f.relative_to(world / "classes")) for f in files]
    assert made.labels() == [file.parent.name for file in files] and made.picture(0) == files[0]
    texts = [row["text"] for row in made.text_rows]
    assert texts == [
        "a satellite image of baseball field",
        "a baseball field from above",
        "a satellite image of bare land",
        "a bare land from above",
    ]
    assert made.text_rows[3] | {"length": 0} == {
        "text": texts[3],
        "kind": "class",
        "label": "bare_land",
        "template": "a {} from above",
        "length": 0,
    }
    np.testing.assert_allclose(made.texts, model.texts(texts), atol=1e-6)
    assert made.meta["preprocessing"]["size"] == 32 and made.meta["model"] == "clip" and made.meta["dim"] == 16


def test_norms_give_the_features_before_normalisation(world, model, tmp_path):
    made = embed(world, tmp_path / "s", world / "classes")
    pixels = np.stack([model.preprocess(file) for file in sorted((world / "classes").rglob("*.png"))])
    values = (pixels / 255 - model.preprocessing.mean) / model.preprocessing.std
    apply = jax.jit(lambda params, x: model.image.apply({"params": params}, x))
    raw = np.asarray(apply(model.params["image"], values.astype(np.float32)))
    assert np.ptp(made.image_norms) > 0
    np.testing.assert_allclose(made.images * made.image_norms[:, None], raw, rtol=1e-4, atol=1e-5)


def test_a_split_of_captions_and_texts_cut_to_fewer_tokens(world, model, tmp_path):
    options = [f"--image-root={world / 'images'}", "--text-lengths=6,4", "--pictures"]
    made = embed(world, tmp_path / "s", f"{world / 'captions.json'}:test", *options)
    assert made.split == "test" and [row["id"] for row in made.image_rows] == ["a.png", "b.png"]
    whole = made.text_rows_of("short")
    assert [made.text_rows[row]["text"] for row in whole] == CAPTIONS["a.png"] + CAPTIONS["b.png"]
    assert made.image_of_text(whole).tolist() == [0, 0, 1]
    assert [made.text_rows[row]["length"] for row in whole] == [5, 9, 5]
    # "Two boats at a long pier." of four tokens is its first two words between the special ones.
    first = made.texts[made.text_rows_of("short", tokens=4)]
    np.testing.assert_allclose(first, model.texts(["A pier", "Two boats", "A forest"]), atol=1e-6)
    np.testing.assert_allclose(made.texts[made.text_rows_of("short", tokens=6)[0]], made.texts[whole[0]], atol=1e-6)
    assert made.picture(1) == tmp_path / "s" / "pictures" / "0000001.jpg"
    assert Image.open(made.picture(1)).size == (50, 40)


def test_a_sweep_by_sentences(world, model, tmp_path):
    rows = [
        {"filename": "a.png", "long": "A pier. Two boats. A crane."},
        {"filename": "b.png", "long": "A forest."},
        {"filename": "c.png", "long": "Fields. A road."},
    ]
    (tmp_path / "long.json").write_text(json.dumps(rows))
    options = [f"--image-root={world / 'images'}", "--long-key=long", "--sentences=2", "--text-lengths=4"]
    made = embed(world, tmp_path / "s", str(tmp_path / "long.json"), *options)
    edited = [(row, text) for row, text in enumerate(made.text_rows) if text["kind"] == "edited"]
    assert [(text["edit"], text.get("sentences"), text["text"]) for _, text in edited] == [
        ("first", 1, "A pier."),
        ("first", 2, "A pier. Two boats."),
        ("shuffled", None, shuffled("A pier. Two boats. A crane.")),
        ("without_first", None, "Two boats. A crane."),
        ("first", 1, "Fields."),
        ("first", 2, "Fields. A road."),
        ("shuffled", None, "A road. Fields."),
        ("without_first", None, "A road."),
    ]
    assert {(text["of"], text["whole"], text["image"]) for _, text in edited} == {
        ("long", rows[0]["long"], "a.png"),
        ("long", rows[2]["long"], "c.png"),
    }
    found = made.texts[[row for row, _ in edited]]
    np.testing.assert_allclose(found, model.texts([text["text"] for _, text in edited]), atol=1e-6)
    assert len(made.text_rows_of("long")) == len(made.text_rows_of("long", tokens=4)) == 3
    effects = sentence_effects(made)
    assert (effects["texts"], effects["several"], effects["himo_texts"]) == (3, 2, {"2": 2})


def test_prepared_sets_keep_their_splits_and_ids(world, model, tmp_path, monkeypatch):
    source, out = str(world / "captions.json"), str(tmp_path / "prepared")
    arguments = ["prepare", source, f"--image-root={world / 'images'}", f"--out={out}", "--workers=1"]
    monkeypatch.setattr("sys.argv", arguments)
    prepare()
    material = open_material(out)
    assert [(row["id"], row["split"]) for row in material.images] == [
        ("a.png", "test"),
        ("b.png", "test"),
        ("c.png", "train"),
    ]
    only = open_material(f"{out}:test")
    assert (only.split, len(only.images), len(only.texts)) == ("test", 2, 3)
    np.testing.assert_array_equal(only.read(1), material.read(1))


def test_a_tower_alone_gives_encoder_features(world, tmp_path, capsys):
    params = tiny_clip.mae_file(tmp_path)
    checkpoint = tmp_path / "mae.safetensors"
    options = ["--features=encoder", "--image-heads=1", f"--data={world / 'classes'}"]
    main([f"--checkpoint={checkpoint}", *options, f"--out={tmp_path / 's'}"])
    assert "embeds no texts as encoder features: 2 are left out" in capsys.readouterr().out
    made = open_set(tmp_path / "s")
    tower = pretrained.load(checkpoint, Hints(image_heads=1), features="encoder")
    module = zoo.tower(
        "image",
        {
            "size": 32,
            "patch": 16,
            "width": 64,
            "layers": 1,
            "heads": 1,
            "embed_dim": 16,
            "activation": "gelu",
            "norm_eps": 1e-6,
            "patch_bias": True,
            "pre_norm": False,
        },
    )
    preprocessing = tower.preprocessing
    pixels = np.stack(
        [
            np.asarray(Image.open(f).convert("RGB").resize((40, 32), Image.Resampling.BICUBIC))[:, 4:36]
            for f in sorted((world / "classes").rglob("*.png"))
        ]
    )
    values = (pixels / 255 - preprocessing.mean) / preprocessing.std
    expected = jax.jit(lambda x: module.apply({"params": params}, x, method="features"))(values.astype(np.float32))
    np.testing.assert_allclose(made.images * made.image_norms[:, None], expected, rtol=1e-4, atol=1e-4)
    assert made.meta["features"] == "encoder" and not made.text_rows


def test_a_tower_alone_embeds_files_and_says_what_it_lacks(world, tmp_path):
    tiny_clip.mae_file(tmp_path)
    tower = pretrained.load(tmp_path / "mae.safetensors", Hints(image_heads=1), features="encoder", batch_size=4)
    files = sorted((world / "classes").rglob("*.png"))
    raw = tower.encode("image", map(tower.preprocess, files))
    np.testing.assert_allclose(tower.images(files), raw / np.linalg.norm(raw, axis=1)[:, None], atol=1e-6)
    assert tower.encode("image", []).shape == tower.images([]).shape == (0, 64)
    assert tower.embeds("image") and not tower.embeds("text")
    for ask in (lambda: tower.texts(["a pier"]), lambda: tower.tokenize(["a pier"]), lambda: tower.context_length):
        with pytest.raises(InputError, match=r"mae.safetensors \(MAE\) embeds no texts as encoder features"):
            ask()
    with pytest.raises(InputError, match="has one tower alone"):
        _ = tower.clip
    with pytest.raises(InputError, match="unknown features 'raw': choose 'projected' or 'encoder'"):
        pretrained.load(tmp_path / "mae.safetensors", features="raw")


def test_the_size_of_the_images_can_be_chosen(world, model):
    larger = pretrained.load(world / "clip", size=64)
    table, wide = (np.asarray(of.params["image"]["position_embedding"]) for of in (model, larger))
    assert larger.preprocessing.size == 64 and wide.shape == (17, 64)
    np.testing.assert_array_equal(wide, resize_positions(table, 4, antialias=True))
    assert larger.weights_hash != model.weights_hash
    own = pretrained.load(world / "clip", size=32)
    assert own.weights_hash == model.weights_hash
    with pytest.raises(InputError, match="--size=40 is no multiple of the image tower's patch, 16"):
        pretrained.load(world / "clip", size=40)


def same(a, b):
    files = sorted(path.name for path in a.iterdir())
    return files == sorted(path.name for path in b.iterdir()) and all(
        (a / name).read_bytes() == (b / name).read_bytes() for name in files
    )


def test_a_stopped_command_continues_to_the_same_bytes(world, pairs, tmp_path, monkeypatch, small_parts):
    material = open_material(str(world / "classes"))
    material = dataclasses.replace(material, texts=[{"text": f"text {n}", "kind": "query"} for n in range(5)])
    set_writer.make_set(tmp_path / "whole", material, pairs, ABOUT)

    save, count = parts.save, 0

    def failing(path, **arrays):
        nonlocal count
        count += 1
        if count % 2:
            raise OSError(28, "No space left on device", str(path))
        save(path, **arrays)

    monkeypatch.setattr(parts, "save", failing)
    attempts = 0
    while not (tmp_path / "again" / "meta.json").exists():
        attempts += 1
        try:
            set_writer.make_set(tmp_path / "again", material, pairs, ABOUT)
        except OSError:
            continue
    assert attempts > 3 and same(tmp_path / "whole", tmp_path / "again")


def test_damaged_parts_of_a_stopped_command_are_made_again(world, pairs, tmp_path, monkeypatch, small_parts, capsys):
    material = open_material(f"{world}/captions.json", image_root=f"{world}/images")
    for name in ("whole", "begun"):
        if name == "begun":
            monkeypatch.setattr(parts, "join", lambda *_: pytest.skip("stopped"))
        with contextlib.suppress(pytest.skip.Exception):
            set_writer.make_set(tmp_path / name, material, pairs, ABOUT)
    monkeypatch.undo()
    monkeypatch.setattr(set_writer, "PART", 2)
    saved = sorted((tmp_path / "begun" / parts.FOLDER).glob("*.npz"))
    assert len(saved) == 4
    saved[0].write_bytes(saved[0].read_bytes()[:-30])
    saved[2].write_bytes(b"")
    set_writer.make_set(tmp_path / "begun", material, pairs, ABOUT)
    notes = capsys.readouterr().err.splitlines()
    assert [saved[0].name in notes[0], saved[2].name in notes[1], len(notes)] == [True, True, 2]
    for file in (tmp_path / "whole").iterdir():
        assert (tmp_path / "begun" / file.name).read_bytes() == file.read_bytes()


def test_a_picture_that_was_damaged_between_two_starts_is_made_again(world, pairs, tmp_path, monkeypatch, capsys):
    material = open_material(str(world / "classes"))
    monkeypatch.setattr(set_writer, "PART", 2)
    make = functools.partial(set_writer.make_set, material=material, model=pairs, about=ABOUT, pictures=True)
    make(tmp_path / "whole")
    monkeypatch.setattr(parts, "join", lambda *_: pytest.skip("stopped"))
    with contextlib.suppress(pytest.skip.Exception):
        make(tmp_path / "begun")
    monkeypatch.undo()
    monkeypatch.setattr(set_writer, "PART", 2)
    picture = tmp_path / "begun" / "pictures" / "0000003.jpg"
    picture.write_bytes(picture.read_bytes()[:-20] + b"\0" * 20)
    make(tmp_path / "begun")
    notes = capsys.readouterr().err.splitlines()
    assert notes == [f"note: {picture} is damaged: its content is not what was written; it is made again"]
    assert same(tmp_path / "whole" / "pictures", tmp_path / "begun" / "pictures")
    assert sorted(file.name for file in (tmp_path / "begun").iterdir()) == sorted(os.listdir(tmp_path / "whole"))


def test_a_finished_set_that_is_damaged_is_named_before_anything_is_measured(world, pairs, tmp_path, monkeypatch):
    material = open_material(f"{world}/captions.json", image_root=f"{world}/images")
    out, rng = tmp_path / "set", np.random.default_rng(0)
    set_writer.make_set(out, material, pairs, ABOUT)
    check_set(out)
    files = sorted(file for file in out.iterdir() if file.is_file())
    assert len(files) == 8  # matrices, norms and rows of both sides, meta.json, the checksums
    meta = open_set(out).meta
    for file in files:
        kept = file.read_bytes()
        for at in rng.choice(8 * len(kept), 20, replace=False):
            damaged = bytearray(kept)
            damaged[at // 8] ^= 1 << at % 8
            file.write_bytes(damaged)
            try:
                check_set(out)
                assert file.name == "meta.json" and open_set(out).meta == meta  # between its values
            except InputError as error:
                assert file.name in str(error) and "\n" not in str(error)
        file.write_bytes(kept)
    outcome = task_runs.run([out], tmp_path / "results")
    assert outcome.results and not outcome.failures
    (out / "images.npy").write_bytes((out / "images.npy").read_bytes()[:-1] + b"\xff")
    outcome = task_runs.run([out], tmp_path / "others")
    remedy = f"embed again or, if you have changed it yourself, delete {out}/.checksums.json"
    assert outcome.failures == [f"{out}/images.npy is damaged: its content is not what was written: {remedy}"]
    assert not outcome.results


def test_a_study_may_be_added_by_hand(world, pairs, tmp_path):
    set_writer.make_set(tmp_path, open_material(f"{world}/captions.json", image_root=f"{world}/images"), pairs, ABOUT)
    meta = json.loads((tmp_path / "meta.json").read_text())
    (tmp_path / "meta.json").write_text(json.dumps(meta | {"study": {"table": "lrsclip:fig10", "heads": {}}}))
    check_set(tmp_path)
    (tmp_path / "meta.json").write_text(json.dumps(meta | {"dim": 5}))
    with pytest.raises(
        InputError, match="meta.json is damaged: .* if you have changed it yourself, delete .*checksums"
    ):
        check_set(tmp_path)


def test_what_was_begun_is_only_continued_as_it_was_begun(world, pairs, tmp_path, small_parts):
    material = open_material(str(world / "classes"))
    out = tmp_path / "s"
    parts.claim(out, {**ABOUT, "model": "other"})
    with pytest.raises(InputError, match="begun with other batch size, images and texts, model"):
        set_writer.make_set(out, material, pairs, ABOUT)
    shutil.rmtree(out)
    set_writer.make_set(out, material, pairs, ABOUT)
    with pytest.raises(InputError, match="holds a finished embedding set"):
        set_writer.make_set(out, material, pairs, ABOUT)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds other files \(notes.txt\)"):
        set_writer.make_set(tmp_path / "other", material, pairs, ABOUT)


def test_unusable_images_stop_it_or_are_left_out_with_their_texts(world, pairs, tmp_path, small_parts):
    folder = tmp_path / "images"
    shutil.copytree(world / "images", folder)
    (folder / "b.png").write_bytes(b"no image")
    shutil.copy(world / "captions.json", tmp_path / "captions.json")
    material = open_material(str(tmp_path / "captions.json"), image_root=str(folder))
    with pytest.raises(InputError, match="b.png: not a JPEG.*--max-bad"):
        set_writer.make_set(tmp_path / "s", material, pairs, ABOUT)
    assert set_writer.make_set(tmp_path / "s", material, pairs, ABOUT, max_bad=1) == (1, 0)
    made = open_set(tmp_path / "s")
    assert [row["id"] for row in made.image_rows] == ["a.png", "c.png"]
    assert [row["image"] for row in made.text_rows] == ["a.png", "a.png", "c.png"]
    assert "b.png" in (tmp_path / "s" / "skipped.jsonl").read_text()
    assert not (tmp_path / "s" / parts.FOLDER).exists()


def test_a_named_pipe_is_left_out_and_not_waited_for(world, pairs, tmp_path, small_parts):
    shutil.copytree(world / "images", tmp_path / "images")
    (tmp_path / "images" / "b.png").unlink()
    os.mkfifo(tmp_path / "images" / "b.png")
    material = open_material(str(world / "captions.json"), image_root=str(tmp_path / "images"))
    assert set_writer.make_set(tmp_path / "s", material, pairs, ABOUT, max_bad=1) == (1, 0)
    assert "b.png: image can't be read (not a regular file)" in (tmp_path / "s" / "skipped.jsonl").read_text()


def test_rows_that_make_no_image_count_with_the_images(world, pairs, tmp_path, small_parts):
    rows = [{"image": name, "short": texts} for name, texts in CAPTIONS.items()]
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps(row) + "\n" for row in rows) + '{"image": "d.png", "short": 3}\n{"image": "gone.png"'
    )
    (tmp_path / "b.png").write_bytes(b"no image")
    for name in ("a.png", "c.png"):
        shutil.copy(world / "images" / name, tmp_path)
    material = open_material(str(path))
    with pytest.raises(InputError, match="2 rows or images can't be used, the last: rows.jsonl, line 5: not JSON"):
        set_writer.make_set(tmp_path / "s", material, pairs, ABOUT, max_bad=1)
    assert not (tmp_path / "s").exists()
    with pytest.raises(InputError, match="b.png: not a JPEG"):
        set_writer.make_set(tmp_path / "s", material, pairs, ABOUT, max_bad=2)
    assert set_writer.make_set(tmp_path / "s", material, pairs, ABOUT, max_bad=3) == (3, 0)
    skipped = [json.loads(line) for line in (tmp_path / "s" / "skipped.jsonl").read_text().splitlines()]
    assert [(skip["id"], skip.get("where")) for skip in skipped] == [
        ("d.png", "rows.jsonl, line 4"),
        ("", "rows.jsonl, line 5"),
        ("b.png", None),
    ]
    assert [row["id"] for row in open_set(tmp_path / "s").image_rows] == ["a.png", "c.png"]


def test_names_of_files_that_are_no_utf8_do_not_end_a_set(world, tmp_path):
    (tmp_path / "images").mkdir()
    shutil.copy(world / "images" / "a.png", tmp_path / "images" / "b\udcff.png")
    shutil.copy(world / "images" / "b.png", tmp_path / "images" / "c.png")
    made = embed(world, tmp_path / "s", tmp_path / "images")
    assert [row["id"] for row in made.image_rows] == ["b⟨ff⟩.png", "c.png"]
    assert made.picture(0).read_bytes() == (world / "images" / "a.png").read_bytes()


def test_a_checkpoint_whose_name_is_no_utf8_has_one_in_the_set(world, tmp_path):
    shutil.copytree(world / "clip", tmp_path / "cl\udcffip")
    main([str(world / "classes"), f"--checkpoint={tmp_path}/cl\udcffip", f"--out={tmp_path / 's'}"])
    meta = open_set(tmp_path / "s").meta
    assert meta["model"] == "cl?ip" and meta["checkpoint"] == f"{tmp_path}/cl?ip"


@pytest.mark.slow
def test_folders_of_no_known_data_set_are_classes_only_where_that_is_said(world, tmp_path, capsys):
    for folder in ("flight_0", "flight_1"):
        (tmp_path / "archive" / folder).mkdir(parents=True)
        shutil.copy(world / "images" / "a.png", tmp_path / "archive" / folder)
    made = embed(world, tmp_path / "s", tmp_path / "archive")
    assert made.labels() is None and len(made.image_rows) == 2 and not made.text_rows
    assert "note: the 2 subfolders of archive are not those of a known data set" in capsys.readouterr().out
    for number, option in enumerate(("--labels=folders", "--templates=a {}")):
        made = embed(world, tmp_path / f"told{number}", tmp_path / "archive", option)
        assert made.labels() == ["flight_0", "flight_1"] and len(made.text_rows) == 2


def test_numbers_make_no_texts_of_classes(world, tmp_path, capsys):
    rows = [{"image": name, "label": number} for number, name in enumerate(CAPTIONS)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    root = f"--image-root={world / 'images'}"
    made = embed(world, tmp_path / "s", tmp_path / "rows.json", root)
    assert made.labels() == ["0", "1", "2"] and not made.text_rows
    assert "are numbers: name the classes by --classes, or their key by --label-key" in capsys.readouterr().out
    with pytest.raises(InputError, match="are numbers: name the classes by --classes"):
        embed(world, tmp_path / "t", tmp_path / "rows.json", root, "--templates=lrsclip")
    (tmp_path / "words.json").write_text(json.dumps({"0": "pier", "1": "forest", "2": "field"}))
    made = embed(world, tmp_path / "u", tmp_path / "rows.json", root, f"--classes={tmp_path / 'words.json'}")
    assert [row["text"] for row in made.text_rows] == [f"a satellite photo of {c}" for c in ("pier", "forest", "field")]


def test_procedural_scenes_are_those_of_training(tmp_path):
    material, records = open_material("scenes:3:5"), open_records("scenes:3:5")
    assert [row["id"] for row in material.images] == [record.id for record in records]
    assert [row["text"] for row in material.texts] == [text for one in records for text in (*one.long, *one.short)]
    np.testing.assert_array_equal(material.read(2), read_image(records[2].image))


def test_rows_without_a_direction_are_refused(world, pairs, tmp_path):
    broken = dataclasses.replace(pairs, params=jax.tree.map(lambda leaf: leaf * np.nan, pairs.params))
    with pytest.raises(InputError, match="gives 'BaseballField/0.png' a row that is zero or not finite"):
        set_writer.make_set(tmp_path / "s", open_material(str(world / "classes")), broken, ABOUT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data=nowhere"], "nowhere: no such file or folder"),
        (["--data={world}/captions.json:tset"], "no split 'tset', it has test, train, did you mean 'test'"),
        (["--data={world}/images", "--templates=lrsclip"], "have no labels"),
        (["--data="], "the name of the source is empty"),
        (["--data={world}/classes", "--templates=lrsclp"], "did you mean 'lrsclip'"),
        (["--data={world}/classes", "--templates=a photo"], "no templates are called 'a photo'"),
        (["--data={world}/classes", "--classes={world}/captions.json"], "a JSON object {label: words} is expected"),
        (["--data={world}/captions.json", "--text-lengths=2"], "2 is not between 3 and 77"),
        (["--data={world}/classes", "--text-lengths=9"], "no long or short texts to cut"),
        (["--data={world}/classes", "--sentences=3"], "--sentences: there are no long or short texts to cut"),
        (["--data={world}/captions.json", "--sentences=3"], "no short text has two sentences"),
        (["--data={world}/captions.json", "--sentences=1"], "--sentences=1: expected a whole number from 2"),
        (["--data={world}/classes", "--batch-size=0"], "--batch-size=0: expected a whole number from 1"),
        (["--data={world}/classes", "--texts={world}/none.txt"], "none.txt: can't be read"),
    ],
)
def test_bad_input_is_named_before_anything_is_written(world, tmp_path, options, message):
    options = [option.replace("{world}", str(world)) for option in options]
    with pytest.raises(InputError, match=message):
        main([f"--checkpoint={world / 'clip'}", f"--out={tmp_path / 's'}", *options])
    assert not (tmp_path / "s").exists()
