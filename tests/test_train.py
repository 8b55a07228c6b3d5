"""Whole runs of the command in processes of their own: what they leave, and that an interruption leaves no trace."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from lrsclip_jax import config as configs
from lrsclip_jax.run.progress import CLOCK
from lrsclip_jax.run.recorder import Recorder
from lrsclip_jax.setup import RunLength, set_up
from lrsclip_jax.train import scores_its_start, train_and_evaluate

KEYS = {
    "model.image.layers": 1,
    "model.image.width": 32,
    "model.text.layers": 1,
    "model.text.width": 32,
    "model.image.patch": 16,
    "data.sources": "scenes:80:0",
    "data.long_length": 64,
    "data.short_length": 24,
    "batch_size": 16,
    "epochs": 2.4,
    "optimizer.warmup_steps": 3,
    "eval.sources": "scenes:24:1",
    "eval.every_steps": 6,
    "eval.batch_size": 16,
    "eval.at_start": True,
    "checkpoint.every_steps": 4,
    "log.every_steps": 1,
    "log.tensorboard": False,  # seconds of imports; one run writes events all the same
}
STEPS = 12


def command(workdir: Path, *arguments: str, devices: int = 1, **overrides) -> subprocess.Popen:
    """Starts the quickstart at a hundredth of its size."""
    keys = KEYS | {key.replace("__", "."): value for key, value in overrides.items()}
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
    }
    flags = [f"--config.{key}={value}" for key, value in keys.items()]
    program = [sys.executable, "-m", "lrsclip_jax.main", "--config=configs/quickstart.py", f"--workdir={workdir}"]
    return subprocess.Popen(
        [*program, *arguments, *flags], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def rows(workdir: Path) -> dict[int, dict]:
    """The rows of metrics.jsonl by step, without what depends on the clock."""
    found: dict[int, dict] = {}
    path = workdir / "metrics.jsonl"
    for line in path.read_text().splitlines() if path.exists() else []:
        row = json.loads(line)
        found.setdefault(row["step"], {}).update(row)
    return {step: {k: v for k, v in row.items() if k not in CLOCK} for step, row in found.items()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    status, out, err = finish(command(workdir, log__tensorboard=True))
    assert status == 0, err
    assert "Mean recall: long text" in out
    return workdir


def test_what_a_run_leaves(finished):
    metrics = rows(finished)
    assert sorted(metrics) == list(range(STEPS + 1))
    assert all(math.isfinite(metrics[step]["loss"]) for step in range(1, STEPS + 1))
    assert all("eval/scenes:24:1/long/mean_recall" in metrics[step] for step in (0, 6, STEPS))
    page = (finished / "report.html").read_text()
    assert "<html" in page
    recall = metrics[0]["eval/scenes:24:1/long/text_to_image/R@1"]
    assert re.search(rf"long, before training</th><td[^>]*>{recall:.2f}</td>", page)
    assert json.loads((finished / "config.json").read_text())["batch_size"] == 16
    assert sorted(path.name for path in (finished / "checkpoints").iterdir()) == ["12", "8"]
    assert any((finished / "tensorboard").iterdir())


def test_a_run_scores_its_start_by_itself_where_it_is_given_weights():
    def scored(*overrides):
        return scores_its_start(configs.load("configs/quickstart.py", overrides))

    assert not scored() and not scored("model.init=random")
    assert scored("model.init=runs/b16") and scored("model.image_init=a.pt") and scored("model.text_init=b.pt")
    assert scored("eval.at_start=True") and not scored("eval.at_start=False", "model.init=runs/b16")


@pytest.mark.exhaustive
def test_one_state_is_in_memory(tmp_path, monkeypatch):
    """Where the step keeps its old state, as on a CPU, nothing may hold the one that training began with."""
    held = []
    add = Recorder.add

    def measured(self, step, batch, metrics):
        held.append(sum(array.nbytes for array in jax.live_arrays()))
        add(self, step, batch, metrics)

    monkeypatch.setattr(Recorder, "add", measured)
    keys = KEYS | {"eval.sources": (), "epochs": 0.2, "batch_size": 2, "checkpoint.every_steps": 100}
    config = configs.load("configs/quickstart.py", [f"{key}={value}" for key, value in keys.items()])
    before = sum(array.nbytes for array in jax.live_arrays())
    train_and_evaluate(config, str(tmp_path))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(set_up(config, RunLength(8, 40)).shapes.params))
    state = 3 * 4 * parameters  # AdamW's
    assert len(held) == 8 and state < held[-1] - before < 1.3 * state


@pytest.mark.slow
def test_killed_and_continued_is_as_if_nothing_had_happened(finished, tmp_path):
    workdir = tmp_path / "killed"
    process = command(workdir)
    deadline = time.monotonic() + 240
    # After the first checkpoint, while the evaluation of step 6 is being compiled: seconds in which to be killed.
    while not ((workdir / "checkpoints" / "4").exists() and max(rows(workdir), default=0) >= 5):
        assert process.poll() is None and time.monotonic() < deadline, (
            "the run ended or stalled before it could be killed"
        )
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    interrupted = max(rows(workdir))
    assert 5 <= interrupted < STEPS
    status, _, err = finish(command(workdir))
    assert status == 0 and "continuing after step" in err, err
    assert rows(workdir) == rows(finished)


@pytest.mark.exhaustive
def test_a_finished_run_only_evaluates_again(finished):
    before = rows(finished)
    status, _, err = finish(command(finished))
    assert status == 0 and f"continuing after step {STEPS}" in err, err
    assert rows(finished) == before


@pytest.mark.exhaustive
def test_more_epochs_continue_a_finished_run_and_say_what_becomes_of_its_schedule(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "longer")
    status, _, err = finish(command(tmp_path / "longer", epochs=3.0, eval__sources=()))
    told = (
        "note: the run was finished after step 12, and epochs=3 continue it to step 15; the cosine now ends there: the "
    )
    assert status == 0 and f"{told}learning rate was " in err, err


@pytest.mark.exhaustive
def test_with_a_constant_learning_rate_a_run_in_two_parts_is_that_of_one(tmp_path):
    keys = {"optimizer__schedule": "constant", "eval__sources": ()}
    for epochs in (1.2, 2.4):
        status, _, err = finish(command(tmp_path / "two", epochs=epochs, **keys))
        assert status == 0, err
    assert "note: the run was finished after step 6, and epochs=2.4 continue it to step 12\n" in err
    status, _, err = finish(command(tmp_path / "one", **keys))
    assert rows(tmp_path / "one") == rows(tmp_path / "two")


@pytest.mark.exhaustive  # in CI run/test_preemption.py and test_interrupts.py
@pytest.mark.parametrize(
    ("name", "wanted", "end"), [("SIGTERM", 143, "stopped by SIGTERM"), ("SIGINT", 130, "interrupted")]
)
def test_a_signal_saves_and_the_run_continues(finished, tmp_path, name, wanted, end):
    process = command(tmp_path, checkpoint__every_steps=1000)
    deadline = time.monotonic() + 240
    while max(rows(tmp_path), default=0) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(getattr(signal, name))
    status, _, err = finish(process)
    assert status == wanted and re.search(f"{end} after step [0-9]+, saved; the same command continues", err), err
    status, _, err = finish(command(tmp_path, checkpoint__every_steps=1000))
    assert status == 0 and "continuing after step" in err, err
    assert rows(tmp_path) == rows(finished)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("factor", "fires"), [(100, True), (1, False)])
def test_a_run_made_to_forget_warns_and_a_good_one_stays_quiet(finished, tmp_path, factor, fires):
    start = {"model__init": finished, "eval__guard": (("eval/scenes:24:1/long/mean_recall", 0.0),)}
    rate = {"optimizer__learning_rate": 1e-3 * factor, "optimizer__warmup_steps": 0, "epochs": 0.8}
    status, _, err = finish(command(tmp_path, **start, **rate, eval__every_steps=2))
    assert status == 0, err
    assert (" is " in err and "below its start" in err) == fires, err
    assert any(key.startswith("forgotten/") for row in rows(tmp_path).values() for key in row) == fires
    assert ("Forgetting" in (tmp_path / "report.html").read_text()) == fires


@pytest.mark.exhaustive  # in CI test_sharding.py
def test_four_devices_train_the_same_curve(finished, tmp_path):
    workdir = tmp_path / "four"
    status, _, err = finish(command(workdir, devices=4, eval__sources=()))
    assert status == 0 and "4 × cpu" in err, err
    one, four = rows(finished), rows(workdir)
    for step in range(1, STEPS + 1):
        assert four[step]["loss"] == pytest.approx(one[step]["loss"], rel=1e-5)


@pytest.mark.slow
def test_another_config_is_refused(finished):
    status, _, err = finish(command(finished, optimizer__learning_rate=0.5))
    assert status == 2
    assert "optimizer.learning_rate: 0.001 -> 0.5" in err and "--branch=NEWDIR" in err
    assert err.count("\n") == 1


@pytest.mark.exhaustive  # in CI run/test_workdir.py
def test_another_config_may_branch(finished, tmp_path):
    branch = tmp_path / "branch"
    status, _, err = finish(
        command(finished, f"--branch={branch}", epochs=3.0, optimizer__learning_rate=1e-4, eval__sources=())
    )
    assert status == 0 and f"continuing after step {STEPS} of 15" in err, err
    assert rows(branch)[5] == rows(finished)[5]
    assert rows(branch)[15]["learning_rate"] < 1e-4


@pytest.mark.exhaustive  # in CI run/test_checkpoint.py
def test_another_architecture_is_one_clear_line(finished, tmp_path):
    branch = tmp_path / "wider"
    status, _, err = finish(command(finished, f"--branch={branch}", model__text__width=48))
    assert status == 2
    assert "holds another model" in err.splitlines()[-1] and "Traceback" not in err


@pytest.mark.exhaustive  # in CI run/test_nonfinite.py
def test_a_diverging_run_stops_and_keeps_its_checkpoint(tmp_path):
    workdir = tmp_path / "diverging"
    status, _, err = finish(
        command(
            workdir,
            optimizer__learning_rate=1e30,
            optimizer__warmup_steps=0,
            loss__max_scale=None,
            eval__sources=(),
        )
    )
    assert status == 2
    assert " at step " in err.splitlines()[-1] and "lower optimizer.learning_rate" in err
    losses = [row["loss"] for row in rows(workdir).values()]
    assert losses and all(map(math.isfinite, losses))
