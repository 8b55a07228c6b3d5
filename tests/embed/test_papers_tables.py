"""From the files that are published to the papers' tables: `embed`, `evaluate`, `papers`, with a tiny model."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_clip
from PIL import Image

from eval.embeddings import open_set
from eval.facts import classes
from eval.papers.__main__ import main as papers
from eval.selo import windows
from eval.suite.__main__ import main as evaluate
from lrsclip_jax.embed.__main__ import main as embed
from lrsclip_jax.embed.material import material_of
from lrsclip_jax.sources import open_source


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip") / "runs" / "b16"
    tiny_clip.clip_folder(folder)
    return folder


def picture(path, seed, size=(50, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path)


def karpathy(root, name, **texts_of):
    """A list as RSICD's and RSITMD's authors publish it: four images, of which one is for training."""
    rows = []
    for number in range(4):
        picture(root / "images" / f"{number}.png", number)
        sentences = [{"raw": f"many {thing} are near {number} roads ."} for thing in texts_of or ("planes", "trees")]
        rows.append({"filename": f"{number}.png", "split": "test" if number else "train", "sentences": sentences})
    (root / name).write_text(json.dumps({"images": rows, "dataset": "x"}))


def rows_of(table, results, capsys):
    capsys.readouterr()
    papers([f"--table={table}", str(results)])
    said = capsys.readouterr().out
    return [line for line in said.splitlines() if line.startswith("ours")], said


@pytest.mark.slow
def test_the_readmes_retrieval_command_reaches_the_tables_of_both_papers(clip, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (command,) = (line.split() for line in readme.splitlines() if line.startswith("lrsclip embed dataset_rsitmd"))
    assert command[2:4] == ["dataset_rsitmd.json:test", "--checkpoint=runs/b16"]
    karpathy(tmp_path, "dataset_rsitmd.json")
    (tmp_path / "runs").symlink_to(clip.parent)
    embed(command[2:])
    assert "note: dataset_rsitmd is RSITMD, by its name; --dataset=NAME calls it otherwise" in capsys.readouterr().out
    embed([*command[2:5], "--out=sets/stripped", "--name=stripped", "--dataset=rsitmd_test", "--strip-stops"])
    assert "by its name" not in capsys.readouterr().out  # the user's own name is taken as it is
    plain, stripped = open_set(tmp_path / "sets" / "b16" / "rsitmd"), open_set(tmp_path / "sets" / "stripped")
    assert (plain.dataset, stripped.dataset) == ("RSITMD", "rsitmd_test")
    assert [row["text"] for row in plain.text_rows] == [f"{row['text']} ." for row in stripped.text_rows]
    assert "stops" not in plain.meta and stripped.meta["stops"] == "stripped"
    assert np.abs(plain.texts - stripped.texts).max() > 1e-3

    evaluate(["sets", "--out=evaluation", "--processes=1"])
    assert "rsitmd_test is RSITMD in the papers' tables" in capsys.readouterr().err
    for table in ("lrsclip:III", "rsclip:I", "rsclip:III"):
        ours, said = rows_of(table, "evaluation", capsys)
        assert [line.split()[1] for line in ours] == ["b16", "stripped"]
        assert "b16, RSITMD: 6 texts of 3 images of split test, published 2,260 of 452." in said
        assert ("the texts' last full stop is taken off" in said) == table.startswith("lrsclip")
    assert rows_of("lrsclip:II", "evaluation", capsys)[0] == []


def test_images_in_the_class_folders_of_a_known_data_set_are_that_one(clip, tmp_path, capsys):
    for number, folder in enumerate(classes.dataset("whu-rs19").classes):
        picture(tmp_path / "Images" / folder / "0.png", number)
    embed([str(tmp_path / "Images"), f"--checkpoint={clip}", f"--out={tmp_path / 'sets' / 'a'}"])
    assert "note: Images is WHU-RS19, by its classes" in capsys.readouterr().out
    assert open_set(tmp_path / "sets" / "a").dataset == "WHU-RS19"
    evaluate([str(tmp_path / "sets"), f"--out={tmp_path / 'out'}", "--processes=1", "--only=zeroshot"])
    assert len(rows_of("lrsclip:IV", tmp_path / "out", capsys)[0]) == 1


def test_the_last_stop_of_short_texts_alone_is_taken_off(tmp_path):
    rows = [{"image": "a.png", "short": ["a pier .", "A boat.", "two. ", " ."], "long": "It is a pier ."}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    texts = material_of(open_source(str(tmp_path / "rows.json")), strip_stops=True).texts
    assert [row["text"] for row in texts if row["kind"] == "short"] == ["a pier", "A boat", "two", "."]
    assert [row["text"] for row in texts if row["kind"] == "long"] == ["It is a pier ."]


def test_scenes_are_cropped_as_the_reference_does_and_hold_what_a_second_look_asks_for(clip, tmp_path, capsys):
    picture(tmp_path / "AIR-SLT" / "imgs" / "1.png", 0, (700, 600))
    square = [[100, 100], [300, 100], [300, 300], [100, 300]]
    queries = [{"jpg_name": "1.png", "caption": text, "points": [square]} for text in ("a long grey pier", "two boats")]
    (tmp_path / "AIR-SLT" / "anno.json").write_text(json.dumps(queries))
    arguments = [f"air-slt:{tmp_path / 'AIR-SLT'}", f"--checkpoint={clip}", "--steps=256,512"]
    embed([*arguments, f"--out={tmp_path / 'sets' / 'both'}", "--second-look"])
    both = open_set(tmp_path / "sets" / "both")
    assert both.meta["crops"] == "reference"
    first = [row["window"] for row in both.image_rows if "look" not in row]
    assert first == windows(600, 700, (256, 512)).tolist()
    assert len({tuple(row["window"]) for row in both.image_rows}) == len(both.image_rows) > len(first)
    shuffled = [row for row in both.text_rows if row["kind"] == "shuffled"]
    assert len(shuffled) == 8 and {row["query"] for row in shuffled} == {"a long grey pier", "two boats"}
    assert all(sorted(row["text"].split()) == sorted(row["query"].split()) for row in shuffled)

    evaluate([str(tmp_path / "sets"), f"--out={tmp_path / 'out'}", "--processes=1"])
    found = {path.name for path in (tmp_path / "out" / "results").rglob("*.json")}
    assert found == {"selo.json", "selo_v2.json"}
    ours, said = rows_of("lrsclip:V", tmp_path / "out", capsys)
    assert len(ours) == 2 and "b16, SeLo v2" in ours[1]
    assert "AIR-SLT: queries: 2, scenes: 1; published 59 and 22; windows of 256 and 512 pixels, published" in said
