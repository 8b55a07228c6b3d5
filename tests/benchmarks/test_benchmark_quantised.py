"""The table of losses with and without integers: what it says of given runs."""

import importlib
from pathlib import Path

import pytest

from lrsclip_jax.errors import InputError


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    return importlib.import_module("benchmarks.quantised")


def test_curves_stand_side_by_side(bench):
    score = {"step": 20, "eval/a/long/mean_recall": 7.0}
    runs = {
        name: [*({"step": step, "loss": step + offset} for step in range(1, 21)), score]
        for name, offset in (("float", 0), ("int8", 0.5))
    }
    lines = bench.table(runs).splitlines()
    assert len(lines) == 2 + 10 + 1
    assert lines[2] == "| 1 to 2 | 1.5000 | 2.0000 |" and lines[-1] == "| eval/a/long/mean_recall | 7.00 | 7.00 |"
    with pytest.raises(InputError, match="the runs have not logged the same steps"):
        bench.table(runs | {"int8": runs["int8"][1:]})


def test_a_wrong_key_is_told_before_any_training(bench, tmp_path):
    with pytest.raises(InputError, match=r"--config.epoch: unknown key, did you mean"):
        bench.main([f"--workdir={tmp_path / 'runs'}", "--config.epoch=1"])
    assert not (tmp_path / "runs").exists()
