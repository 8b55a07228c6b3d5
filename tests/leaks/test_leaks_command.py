"""`lrsclip leaks`: copies of evaluation images in training data, found by the command as a user calls it."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from documents import Document
from PIL import Image

from eval.leaks import read_leaks
from lrsclip_jax.errors import InputError
from lrsclip_jax.leaks import comparing, hashing
from lrsclip_jax.leaks.__main__ import main
from lrsclip_jax.sources import Item, Source


def scene(seed: int) -> Image.Image:
    """Blocks of colour, smoothly enlarged: unlike each other in their low frequencies, as scenes are."""
    blocks = np.random.default_rng(seed).integers(256, size=(9, 9, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((120, 100), Image.Resampling.BICUBIC)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Ten evaluation images; among fifteen training images seven copies of them, edited, one of them twice."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    edits = {**importlib.import_module("benchmarks.leakage").EDITS, "half the size": lambda image, _: image.reduce(2)}
    for folder in ("ponds", "corpus"):
        (tmp_path / folder).mkdir()
    for seed in range(10):
        scene(seed).save(tmp_path / "ponds" / f"{seed}.png")
        scene(100 + seed).save(tmp_path / "corpus" / f"own{seed}.png")
    for seed, edit in enumerate(edits.values()):
        edit(scene(seed), np.random.default_rng(0)).convert("RGB").save(tmp_path / "corpus" / f"copy{seed}.png")
    scene(0).save(tmp_path / "corpus" / "zero.png")
    return tmp_path


def found(name="leaks/ponds.json"):
    (leaks,) = read_leaks(name).values()
    return leaks


def run(*words):
    main([*words, "--out=leaks"], "lrsclip leaks")


def test_all_edited_copies_are_found_with_the_nearest_training_image(place, capsys):
    run("ponds", "--train=corpus")
    leaks = found()
    pairs = {pair.id: pair for pair in leaks.near}
    assert list(pairs) == [f"{seed}.png" for seed in range(7)] and leaks.images == [f"{seed}.png" for seed in range(10)]
    assert [pair.train for pair in leaks.near] == ["zero.png", *(f"copy{seed}.png" for seed in range(1, 7))]
    assert pairs["0.png"].distance == 0 and {pair.source for pair in leaks.near} == {"corpus"}
    assert (leaks.dataset, leaks.split, leaks.source, leaks.distance) == ("ponds", None, "ponds", 8)
    assert [(one.source, one.images, one.unread) for one in leaks.train] == [("corpus", 18, 0)]
    document = Document(Path("leaks/ponds.html").read_text())
    assert document.text("h1") == ["Near pairs: ponds"] and document.text("h2")[-1].startswith("0 bits apart: ")
    assert len(document.all("img")) == 7 and "6.png" in document.text("b")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "leaks/ponds.json: 7 of 10 images are near one of 18 training images, at most 8 bits apart"
    assert said[1] == "  0.png is near zero.png of corpus, 0 bits apart" and said[-1] == "  and 4 more"


def test_a_stopped_command_continues_and_a_further_set_reads_no_training_image_again(place, monkeypatch):
    monkeypatch.setattr(hashing, "BLOCK", 4)
    whole, read = hashing._hash, []

    def counted(item, kind):
        read.append((item.id, kind.name))
        return whole(item, kind)

    monkeypatch.setattr(hashing, "_hash", counted)
    run("ponds", "--train=corpus")
    everything, expected = sorted(read), Path("leaks/ponds.json").read_bytes()
    assert len(everything) == len(set(everything)) == 28

    def killed(item, kind):
        if len(read) == 17:  # in the second block of training images
            raise KeyboardInterrupt
        return counted(item, kind)

    for file in sorted(Path("leaks").rglob("*.*")):
        file.unlink()
    read.clear()
    monkeypatch.setattr(hashing, "_hash", killed)
    with pytest.raises(KeyboardInterrupt):
        run("ponds", "--train=corpus")
    monkeypatch.setattr(hashing, "_hash", counted)
    before = len(read)
    run("ponds", "--train=corpus")
    assert Path("leaks/ponds.json").read_bytes() == expected and len(read) - before == 28 - 14
    read.clear()
    (place / "lakes").mkdir()
    scene(3).save("lakes/a.png")
    run("lakes", "--train=corpus")
    assert read == [("a.png", "windows 1")] and found("leaks/lakes.json").near[0].train == "copy3.png"
    scene(3).save("corpus/own9.png")  # another image of that name: its block is hashed again
    read.clear()
    run("lakes", "--train=corpus")
    assert 0 < len(read) <= 4 and found("leaks/lakes.json").near[0].train == "own9.png"
    next(Path("leaks/hashes").iterdir()).write_bytes(b"PK torn")
    run("lakes", "ponds", "--train=corpus")
    assert len(found("leaks/lakes.json").near) == 1 and len(found().near) == 7


def test_images_that_cannot_be_read_are_named_and_not_compared(place, capsys):
    (place / "ponds" / "4.png").write_bytes(b"torn")
    (place / "corpus" / "copy5.png").write_bytes(b"torn")
    run("ponds", "--train=corpus")
    assert "4.png" not in found().images and [pair.id[0] for pair in found().near] == ["0", "1", "2", "3", "6"]
    assert (found().train[0].images, found().train[0].unread) == (17, 1)
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 2 and notes[0].startswith(
        "note: ponds: 1 images can't be read and are not compared, the first"
    )
    assert "4.png" in notes[0] and "copy5.png" in notes[1]
    scene(5).save("corpus/copy5.png")
    run("ponds", "--train=corpus")
    assert "5.png" in {pair.id for pair in found().near}


def test_lists_are_read_with_their_keys_and_several_sources_are_one_pass(place, capsys):
    rows = [
        {"picture": f"{seed}.png", "name": f"p{seed}", "part": "ab"[seed % 2], "said": "A pond."} for seed in range(10)
    ]
    Path("list.json").write_text(json.dumps(rows))
    keys = ("--image-root=ponds", "--image-key=picture", "--id-key=name", "--split-key=part", "--short-key=said")
    run("list.json:b", "--train=corpus", "--train=ponds", "--distance=0", *keys)
    leaks = found("leaks/list@b.json")
    assert leaks.split == "b" and leaks.images == [f"p{seed}" for seed in (1, 3, 5, 7, 9)]
    assert [pair.id for pair in leaks.near] == leaks.images and {pair.distance for pair in leaks.near} == {0}
    assert [(pair.train, pair.source) for pair in leaks.near[3:]] == [("7.png", "ponds"), ("9.png", "ponds")]
    assert "near one of 28 training images" in capsys.readouterr().out


def test_training_data_of_several_splits_is_told(tmp_path, monkeypatch):
    scene(1).save(tmp_path / "a.png")
    items = [Item(name, "s", tmp_path / "a.png", split=name) for name in ("train", "test")]
    evaluated = comparing.EvaluationSet("e", "e", None, items[:1], [])
    every = {"own": Source("own", lambda: iter(items)), "one": Source("one", lambda: iter(items[:1]), "train")}
    ((leaks, _),), notes = comparing.compare([evaluated], every, tmp_path, 8)
    assert notes == ["own: all of its splits count as training data: test, train"]
    assert [(pair.id, pair.train, pair.source) for pair in leaks.near] == [("train", "train", "own")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ponds", "--train=nowhere"], "nowhere: no such file or folder"),
        (["ponds", "ponds", "--train=corpus"], "ponds: another SOURCE makes ponds.json, too"),
        (["texts.txt", "--train=corpus"], "texts.txt: no image in it to look for"),
        (["ponds", "--train=torn"], "torn: not one image can be read, the first: "),
        (["torn", "--train=ponds"], "torn: not one image can be read, the first: "),
        (["ponds", "--train=corpus", "--image-root=ponds"], "ponds holds its images itself"),
        (["ponds", "--train=corpus", "--distance=65"], "--distance=65: expected a whole number from 0 to 64"),
        (["ponds"], "required: --train"),
        (["ponds", "--train=corpus", "--out=ponds"], "ponds holds other files (0.png)"),
    ],
)
def test_bad_input_of_leaks_is_one_line(place, words, message):
    (place / "torn").mkdir()
    (place / "torn" / "a.png").write_bytes(b"torn")
    Path("texts.txt").write_text("a pond\n")
    out = [] if any(word.startswith("--out") for word in words) else ["--out=leaks"]
    with pytest.raises(InputError) as error:
        main([*words, *out], "lrsclip leaks")
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not Path("leaks/ponds.json").exists()
