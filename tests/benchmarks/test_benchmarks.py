"""The programs that measure: that they read their options and print their tables, not what they find."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from eval.errors import InputError


@pytest.fixture
def loss_memory(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    return importlib.import_module("benchmarks.loss_memory")


def test_options(loss_memory):
    options = loss_memory.parse(["--sizes", "8x32768", "2x16", "--forms", "full", "gather", "ring:256"])
    assert options.sizes == [(8, 32768), (2, 16)]
    assert options.forms == [("full", 0), ("gather", 0), ("ring", 256)]
    assert loss_memory.parse([]).losses == ["info_nce", "sigmoid"] and loss_memory.parse([]).beside == ("full", 0)
    assert loss_memory.parse([]).width == 768 and loss_memory.parse(["--time"]).width == 256


@pytest.mark.parametrize(
    "bad", [["--sizes", "8by16"], ["--sizes", "0x16"], ["--forms", "full:8"], ["--forms", "rung"], ["--rounds", "0"]]
)
def test_bad_options_are_named(loss_memory, bad):
    with pytest.raises(InputError, match=f"argument {bad[0]}: '{bad[1]}' is not"):
        loss_memory.parse(bad)


def test_a_row_of_bytes(loss_memory, capsys):
    loss_memory.main(["--sizes", "2x64", "--width", "8", "--forms", "ring:16", "--losses", "sigmoid"])
    head, _, row = capsys.readouterr().out.splitlines()
    cells = dict(zip(*([cell.strip() for cell in line.split("|")] for line in (head, row)), strict=True))
    names = ("devices", "pairs", "loss", "form", "chunk")
    assert [cells[name] for name in names] == ["2", "64", "sigmoid", "ring", "16"]
    assert float(cells["sent, MiB a device"]) >= 0 and "collective-permute" in cells["collectives"]


@pytest.mark.slow
def test_a_row_of_times(loss_memory):
    full, this, ratio = loss_memory.times("gather", 0, pairs=8, width=4, rounds=1).values()
    assert min(float(cell.split()[0]) for cell in (full, this, ratio)) > 0


def test_draws_are_timed_for_both_tokenizers(monkeypatch, capsys):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    importlib.import_module("benchmarks.draws").main(["--pairs=4", "--tokens=100", "--rounds=2"])
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head.count("|") == 4 and [row.split()[1] for row in rows] == ["clip", "bert"]
    assert all(float(cell.split()[0]) > 0 for row in rows for cell in row.split("|")[2:4])


def test_a_gallery_ranks_its_own_images_alone(monkeypatch):
    """Of 30 images a caption's own is the twentieth best; in galleries of 10 it is always among the best ten."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    galleries = importlib.import_module("benchmarks.galleries")
    images = np.eye(30, dtype=np.float32)
    texts = np.stack([np.roll(np.arange(30.0), own - 10) for own in range(30)])  # `own` is behind 19 others
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    own = np.arange(30)
    assert galleries.recall(images, texts, own, np.arange(30)) == 0
    assert galleries.recall(images, texts, own, np.random.default_rng(0).permutation(30)[:10]) == 100


def test_ways_of_retrieval_agree_on_the_rows_that_are_written(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    retrieval = importlib.import_module("benchmarks.retrieval")
    retrieval.write_rows(tmp_path / "rows", images=40, texts=150, dim=32)
    _, _, ours = retrieval.measure(retrieval.ranked, tmp_path / "rows")
    assert 0 < ours["text_to_image"]["R@1"] < ours["image_to_text"]["R@5"] < 100
    for way in (retrieval.argsort, retrieval.topk) if importlib.util.find_spec("torch") else (retrieval.argsort,):
        retrieval.check_agreement(way.__name__, retrieval.measure(way, tmp_path / "rows")[2], ours)
    wrong = {**ours, "image_to_text": {**ours["image_to_text"], "R@5": 100.0}}
    with pytest.raises(SystemExit, match="argsort: image_to_text R@5 is 100.00, not within"):
        retrieval.check_agreement("argsort", wrong, ours)


def test_published_accuracies_stand_beside_ours(monkeypatch, tmp_path, capsys):
    """The first prompt puts all four images right, the second none, their mean all."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    program = importlib.import_module("benchmarks.remoteclip_whurs19")
    axes = np.eye(2, dtype=np.float32)
    texts = np.stack([axes, np.array([[0.6, 0.8], [0.8, 0.6]], np.float32)])
    rows = {"M/images": axes[[0, 0, 1, 1]], "M/texts": texts, "M/text_average": axes, "labels": np.array([0, 0, 1, 1])}
    save_file(rows, tmp_path / program.ROWS)
    published = {"M": {"published_acc": [75.0, 0.0], "published_avgprompt": 100.0}}
    facts = {"prompts": ["a", "no"], "classes": ["bare land", "sea"], "file_classes": ["BareLand", "Sea"]}
    (tmp_path / program.PUBLISHED).write_text(json.dumps({**facts, "models": published}))
    program.main([str(tmp_path), f"--sets={tmp_path / 'sets'}"])
    printed = capsys.readouterr().out.splitlines()
    assert "| a {}. | 75.00 | 100.00 | 1 | 100.00 | 1 |" in printed
    assert "| no {}. | 0.00 | 0.00 | 0 | 0.00 | 0 |" in printed
    assert "Ours: 1 of 2 prompts equal to the image, none more than 1 apart." in printed
    assert "| mean of raw rows | 100.00 | 100.00 | 0 |" in printed
    assert (tmp_path / "sets" / "M" / "texts.jsonl").read_text().count("bare land") == 2
