"""The table of ways to compute attention: that they run and agree, not which is fastest."""

import importlib
import json
from pathlib import Path

import pytest


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    return importlib.import_module("benchmarks.attention")


def test_a_row_of_the_table(bench):
    shape = bench.Shape("packed", "packed causal", tokens=6, heads=1)
    result = json.loads(json.dumps(bench.measure([shape], rows=2, rounds=1)))
    head, row = (bench.table(result).splitlines()[line].split(" | ") for line in (2, 4))
    assert head[-1] == "xla, ms |" and row[:4] == ["| packed", "6", "1", "packed causal"]
    assert row[4].endswith("(1.00×) |") and float(row[4].split()[0]) > 0


def test_what_cannot_run_is_a_gap_with_a_line(bench, monkeypatch, capsys):
    monkeypatch.setattr(bench, "offered", lambda platform, dtype: ("xla", "cudnn"))
    shapes = [bench.Shape(what, "full", 6, 1) for what in ("first", "second")]
    result = bench.measure(shapes, rows=2, rounds=1)
    result["shapes"][0]["seconds"]["cudnn"] = result["shapes"][0]["times_faster"]["cudnn"] = 2.0
    lines = bench.table(result).splitlines()
    assert lines[4].endswith("2e+03 (2.00×) |") and lines[5].endswith("|  |")
    assert "first: cudnn: attention='cudnn' cannot take float32" in capsys.readouterr().err
