"""The table of ways to compute attention: that they run and agree, not which is fastest."""

import ast
import importlib
import json
from pathlib import Path

import pytest


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    return importlib.import_module("benchmarks.attention_speed")


def test_a_row_of_the_table(bench):
    shape = bench.Shape("packed", tokens=6, heads=1, causal=True, segments="packed")
    result = json.loads(json.dumps(bench.measure([shape], rows=2, rounds=1)))
    head, row = (bench.table(result).splitlines()[line].split(" | ") for line in (2, 4))
    assert head[-1] == "xla, ms |" and row[:4] == ["| packed", "6", "1", "packed causal"]
    assert row[4].endswith("(1.00×) |") and float(row[4].split()[0]) > 0
    assert bench.table(result).endswith("|")  # nothing to choose from, so no entry of MEASURED


def test_what_is_faster_becomes_an_entry_and_what_cannot_run_a_gap(bench):
    def shape(tokens, **seconds):
        ratios = {way: seconds["xla"] / time for way, time in seconds.items()}
        return bench.SHAPES[0]._asdict() | {
            "tokens": tokens,
            "mask": "full",
            "seconds": seconds,
            "times_faster": ratios,
        }

    run = {"device": "NVIDIA H200", "dtype": "bfloat16", "jax": "0", "platform_version": "0", "rows": 1, "rounds": 1}
    shapes = [shape(50, xla=1.0, cudnn=0.97), shape(197, xla=1.0, cudnn=0.5), shape(257, xla=1.0)]
    lines = bench.table(run | {"shapes": shapes}).splitlines()
    assert lines[6].endswith("|  |")
    assert ast.literal_eval("{" + "".join(lines[8:]) + "}") == {("NVIDIA H200", "bfloat16", "full", 197): "cudnn"}
