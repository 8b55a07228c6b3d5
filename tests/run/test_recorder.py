"""The recorder: rows come late and complete, and nothing passes it that was not finite."""

import time
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from lrsclip_jax.flops import PairWork, Work
from lrsclip_jax.run.nonfinite import Guard, NotFinite
from lrsclip_jax.run.progress import Progress
from lrsclip_jax.run.recorder import Recorder
from lrsclip_jax.run.throughput import Throughput

BATCH = {"long": np.zeros((4, 10)), "short": np.zeros((4, 5))}


def pair_work(texts, images=None):
    tokens = sum(each.tokens for each in (*texts, *filter(None, [images])))
    return PairWork(Work(1e9 * tokens), (), Work(), Work(), Work(), 0.0, 0.0)


def metrics_of(step, *, finite=True, skipped=0):
    return {
        "loss": jnp.float32(step if finite else np.nan),
        "gradient_norm": jnp.float32(1),
        "text_tokens": jnp.float32(30),
        "text_squares": jnp.float32(300),
        "finite": jnp.bool_(finite),
        "skipped": jnp.int32(skipped),
    }


class Run:
    """A recorder of a run of eight steps, and the rows that it writes."""

    def __init__(self, folder, every_steps=2, max_skipped=0, writes=True):
        self.rows = []
        writer = SimpleNamespace(write=lambda step, values: self.rows.append((step, values)))
        throughput = Throughput(pair_work, ("long", "short"), batch_size=4, devices=1, peak=None)
        self.progress = Progress(0, 8, throughput, shown=False)
        self.recorder = Recorder(
            writer if writes else None,
            self.progress,
            throughput,
            Guard(epath.Path(folder), lambda step: ["aid: 1"], max_skipped, writes=writes),
            every_steps=every_steps,
            total_steps=8,
        )

    def steps(self, *steps, **broken):
        for step in steps:
            self.recorder.add(step, BATCH, broken.get(f"step_{step}") or metrics_of(step))

    @property
    def written(self):
        return [step for step, _ in self.rows]


def test_rows_are_written_when_the_next_step_is_under_way(tmp_path):
    run = Run(tmp_path)
    written = []
    for step in range(1, 8):
        run.steps(step)
        written.append(run.written)
    assert written == [[], [], [2], [2], [2, 4], [2, 4], [2, 4, 6]]
    run.steps(8)
    assert run.written == [2, 4, 6]
    run.recorder.read()
    assert run.written == [2, 4, 6, 8]
    step, row = run.rows[0]
    assert row["loss"] == 2 and row["text_tokens"] == 30 and row["padding"] == 1 - 30 / 60
    assert "pairs_per_second" in row and not {"finite", "skipped", "text_squares"} & set(row)
    assert "image_padding" not in row


def test_images_of_any_shape_are_counted_too(tmp_path):
    """Rows of ten slots: two with 15 tokens, next to 30 tokens of text in 60 slots."""
    run, batch = Run(tmp_path, every_steps=1), BATCH | {"patches": np.zeros((2, 10, 3))}
    for step in (1, 2):
        metrics = metrics_of(step) | {"image_tokens": jnp.float32(15), "image_squares": jnp.float32(60)}
        run.recorder.add(step, batch, metrics)
    run.recorder.read()
    row = dict(run.rows)[1]
    assert row["image_tokens"] == 15 and row["image_padding"] == 1 - 15 / 20 and "image_squares" not in row
    assert row["tflops_executed"] / row["tflops_useful"] == pytest.approx((60 + 20) / (30 + 15))


def test_the_last_step_has_a_row_whatever_its_number(tmp_path):
    run = Run(tmp_path, every_steps=5)
    run.steps(*range(1, 9))
    run.recorder.read()
    assert run.written == [5, 8]


def test_a_step_is_read_once(tmp_path):
    run = Run(tmp_path, every_steps=1)
    run.steps(1, 2)
    run.recorder.read()
    run.recorder.read()
    assert run.written == [1, 2]


def test_reading_stops_the_run_at_the_first_step_that_was_not_finite(tmp_path):
    run = Run(tmp_path, every_steps=1)
    bad = {"step_2": metrics_of(2, finite=False, skipped=1), "step_3": metrics_of(3, finite=False, skipped=1)}
    run.steps(1, 2, **bad)
    with pytest.raises(NotFinite, match="at step 2") as error:
        run.steps(3, **bad)
    assert error.value.step == 2 and run.written == [1]
    run.recorder.read()  # nothing is left to be read, or reported again
    assert run.written == [1]


def test_a_skipped_step_has_a_warning_and_no_row(tmp_path, capsys):
    run = Run(tmp_path, every_steps=1, max_skipped=1)
    run.steps(1, 2, 3, step_2=metrics_of(2, finite=False, skipped=1))
    run.recorder.read()
    assert run.written == [1, 3] and "skipped, 1 of 1 allowed" in capsys.readouterr().err


def test_what_happens_aside_begins_when_all_steps_are_known_to_be_finite(tmp_path):
    run = Run(tmp_path)
    run.steps(1, 2)
    with run.recorder.aside("checkpoint"):
        assert run.written == [2]
    run.steps(3, step_3=metrics_of(3, finite=False, skipped=1))
    with pytest.raises(NotFinite), run.recorder.aside("checkpoint"):
        raise AssertionError("a state that is not finite would be saved")


def test_time_aside_and_time_for_batches_are_told_apart(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    run = Run(tmp_path, every_steps=1)

    def batches():
        now[0] += 3
        yield BATCH

    assert run.recorder.next_batch(batches()) is BATCH
    run.steps(1)
    with run.recorder.aside("evaluation"):
        now[0] += 8
    now[0] += 2
    run.steps(2)
    run.recorder.read()
    assert [row.get("ms/evaluation") for _, row in run.rows] == [None, 8000]
    assert [row["data_wait"] for _, row in run.rows] == [1, 0]


def test_other_processes_write_nothing_and_stop_all_the_same(tmp_path):
    run = Run(tmp_path, every_steps=1, writes=False)
    run.steps(1, 2)
    run.recorder.write(2, {"eval/set/long/mean_recall": 1.0})
    assert run.written == []
    run.steps(3, step_3=metrics_of(3, finite=False, skipped=1))
    with pytest.raises(NotFinite):
        run.recorder.read()
    assert not list(tmp_path.iterdir())


def test_no_values_make_no_row(tmp_path):
    run = Run(tmp_path)
    run.recorder.write(2, {})
    run.recorder.write(4, {"eval/set/long/mean_recall": 1.0})
    assert run.rows == [(4, {"eval/set/long/mean_recall": 1.0})]
