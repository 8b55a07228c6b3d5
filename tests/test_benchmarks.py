"""The programs that measure: that they read their options and print their tables, not what they find."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def loss_memory(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    return importlib.import_module("benchmarks.loss_memory")


def test_options(loss_memory):
    options = loss_memory.parse(["--sizes", "8x32768", "2x16", "--forms", "full", "gather", "ring:256"])
    assert options.sizes == [(8, 32768), (2, 16)]
    assert options.forms == [("full", 0), ("gather", 0), ("ring", 256)]
    assert loss_memory.parse([]).width == 768 and loss_memory.parse(["--time"]).width == 256


@pytest.mark.parametrize(
    "bad", [["--sizes", "8by16"], ["--sizes", "0x16"], ["--forms", "full:8"], ["--forms", "rung"], ["--rounds", "0"]]
)
def test_bad_options_exit_with_status_2(loss_memory, bad, capsys):
    with pytest.raises(SystemExit) as caught:
        loss_memory.parse(bad)
    assert caught.value.code == 2
    assert f"error: argument {bad[0]}: '{bad[1]}' is not" in capsys.readouterr().err


def test_a_row_of_bytes(loss_memory, capsys):
    loss_memory.main(["--sizes", "2x64", "--width", "8", "--forms", "ring:16"])
    head, _, row = capsys.readouterr().out.splitlines()
    cells = dict(zip(*([cell.strip() for cell in line.split("|")] for line in (head, row)), strict=True))
    assert [cells[name] for name in ("devices", "pairs", "form", "chunk")] == ["2", "64", "ring", "16"]
    assert float(cells["sent, MiB a device"]) >= 0 and "collective-permute" in cells["collectives"]


def test_a_row_of_times(loss_memory):
    full, this, ratio = loss_memory.times("gather", 0, pairs=8, width=4, rounds=1).split(" | ")
    assert int(full) >= 0 and int(this) >= 0 and float(ratio.split()[0]) > 0


def test_a_gallery_ranks_its_own_images_alone(monkeypatch):
    """Of 30 images a caption's own is the twentieth best; in galleries of 10 it is always among the best ten."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    galleries = importlib.import_module("benchmarks.galleries")
    images = np.eye(30, dtype=np.float32)
    texts = np.stack([np.roll(np.arange(30.0), own - 10) for own in range(30)])  # `own` is behind 19 others
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    own = np.arange(30)
    assert galleries.recall(images, texts, own, np.arange(30)) == 0
    assert galleries.recall(images, texts, own, np.random.default_rng(0).permutation(30)[:10]) == 100
