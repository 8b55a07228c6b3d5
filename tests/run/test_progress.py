import time

import pytest

from lrsclip_jax.flops import PairWork, Texts, Work
from lrsclip_jax.run import metrics
from lrsclip_jax.run.progress import CLOCK, PARTS, TRAINING, Clock, Progress
from lrsclip_jax.run.throughput import Throughput


def work_of(texts):
    """A pair of which every token costs 1e9 FLOPs."""
    dense = Work(1e9 * sum(text.tokens for text in texts))
    return PairWork(dense, (), Work(), Work(), Work(), 0.0, 0.0)


@pytest.fixture
def passes(monkeypatch):
    """A function by which time passes, in seconds; by itself it stands still."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    return pass_by


def test_time_in_no_context_belongs_to_the_host(passes):
    clock = Clock()
    passes(1)
    for seconds in (2, 4):
        with clock.spent("device"):
            passes(seconds)
    passes(8)
    with pytest.raises(KeyError), clock.spent("evaluation"):
        passes(16)
        raise KeyError
    assert clock.lap() == dict.fromkeys(PARTS, 0.0) | {"host": 9.0, "device": 6.0, "evaluation": 16.0}
    passes(32)
    assert clock.lap() == dict.fromkeys(PARTS, 0.0) | {"host": 32.0}
    assert set(TRAINING) < set(PARTS)


def test_a_report_is_of_the_steps_since_the_last_one(passes, capsys):
    progress = Progress(10, 20, Throughput(work_of, ("long",), batch_size=5, devices=2, peak=1e12))
    for part, seconds in {
        "data_wait": 1.0,
        "device": 2.0,
        "evaluation": 5.0,
        "checkpoint": 4.0,
        "compile": 3.0,
    }.items():
        with progress.spent(part):
            passes(seconds)
    passes(1.0)
    progress.done(Texts(5, 3000, 0), Texts(5, 4000, 0))
    progress.done(Texts(5, 1000, 0), Texts(5, 4000, 0))
    figures = progress.report(12, {"loss": 2.5})
    assert figures == pytest.approx(
        {
            "pairs_per_second": 10 / 4,
            "tflops_useful": 4000e9 / 4 / 2 / 1e12,
            "tflops_executed": 8000e9 / 4 / 2 / 1e12,
            "mfu": 0.5,
            "data_wait": 0.25,
            "ms/data_wait": 500,
            "ms/host": 500,
            "ms/device": 1000,
            "ms/checkpoint": 2000,
            "ms/evaluation": 2500,
            "ms/compile": 1500,
            "share/data_wait": 1 / 16,
            "share/host": 1 / 16,
            "share/device": 2 / 16,
            "share/checkpoint": 4 / 16,
            "share/evaluation": 5 / 16,
            "share/compile": 3 / 16,
        }
    )
    assert set(figures) < set(CLOCK)
    assert capsys.readouterr().err == "step 12/20: loss 2.5000, 2 pairs/s, 50% MFU, data wait 25%, 16 s left\n"

    passes(10.0)
    progress.done(Texts(5, 1000, 0), Texts(5, 4000, 0))
    again = progress.report(13, {"loss": 2.0})
    assert again["pairs_per_second"] == 0.5 and again["share/host"] == 1
    assert again["tflops_useful"] == pytest.approx(1000e9 / 10 / 2 / 1e12)


def test_without_a_known_peak_the_line_says_what_was_done(passes, capsys):
    progress = Progress(0, 2, Throughput(work_of, ("long",), batch_size=5, devices=1, peak=None))
    passes(1.0)
    progress.done(Texts(5, 3000, 0), Texts(5, 4000, 0))
    assert "mfu" not in progress.report(1, {"loss": 2.5})
    assert "5 pairs/s, 3 TFLOP/s, data wait 0%" in capsys.readouterr().err
    silent = Progress(0, 2, Throughput(work_of, ("long",), batch_size=5, devices=1, peak=None), shown=False)
    passes(1.0)
    silent.report(1, {"loss": 2.5})
    assert capsys.readouterr().err == ""


def test_every_figure_is_documented():
    for name in CLOCK:
        group, _, part = name.partition("/")
        assert (f"{group}/PART" if part else name) in metrics.__doc__
