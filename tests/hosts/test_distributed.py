"""Processes of a run: what they must agree on, and real ones, joined over loopback, that meet, train and die."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from etils import epath
from test_train import command, finish, rows

from lrsclip_jax import config as configs
from lrsclip_jax.errors import InputError
from lrsclip_jax.hosts import distributed


def about(host, **same):
    return {"host": host, "same": {"jax": "0.10.2", "config.seed": "0"} | same}


def test_differences_between_processes_are_named():
    distributed.check_agreement([about("a"), about("b"), about("c")])
    with pytest.raises(InputError, match=r"jax is 0.12.0 in process 1 \(b\), 0.10.2 in process 0") as error:
        distributed.check_agreement([about("a"), about("b", jax="0.12.0"), about("c", **{"config.seed": "1"})])
    assert "config.seed is 1 in process 2 (c), 0 in process 0" in str(error.value)
    with pytest.raises(InputError, match=r"config.pcm is 32 in process 1 \(b\), None in process 0.*; and 1 more"):
        distributed.check_agreement([about("a")] + [about("b", **{"config.pcm": "32"})] * 5)


def devices(*kinds_of_processes):
    return [
        SimpleNamespace(process_index=index, device_kind=kind)
        for index, kinds in enumerate(kinds_of_processes)
        for kind in kinds
    ]


def test_every_process_has_the_same_devices():
    distributed.check_devices(devices(["H100", "H100"], ["H100", "H100"]))
    with pytest.raises(InputError, match="process 0 has 2 × H100, but process 2 has 1 × H100: give"):
        distributed.check_devices(devices(["H100"] * 2, ["H100"] * 2, ["H100"]))
    with pytest.raises(InputError, match="process 1 has 1 × A100 \\+ 1 × H100"):
        distributed.check_devices(devices(["H100"] * 2, ["H100", "A100"]))


def test_a_process_alone_agrees_with_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed.cluster, "find", lambda seconds: None)
    done = []
    with distributed.joined(configs.load("configs/quickstart.py")):
        distributed.first(lambda: done.append(1))
        distributed.check_shared(epath.Path(tmp_path))
    assert done == [1] and not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="can't write to --workdir"):
        distributed.check_shared(epath.Path(tmp_path / "absent"))


MEETING = """
import json, sys
import jax, numpy as np
from etils import epath
from types import SimpleNamespace
from lrsclip_jax import config as configs, encoders, sharding
from lrsclip_jax.hosts import distributed
from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING
from lrsclip_jax.errors import InputError, cli
from lrsclip_jax.models import attention_choice

def say(case, value):
    print(json.dumps([case, value]), flush=True)

def refused(case, task):
    try:
        task()
    except InputError as error:
        say(case, str(error))

def meet():
    config = configs.load("configs/quickstart.py", ["train.heartbeat_seconds=6", *sys.argv[2:]])
    with distributed.joined(config, initialization_seconds=45):
        me, folder = jax.process_index(), epath.Path(sys.argv[1])
        say("devices", [jax.process_count(), jax.local_device_count(), jax.device_count()])

        distributed.check_shared(folder)
        own = folder / f"of-process-{me}"
        own.mkdir()
        refused("unshared", lambda: distributed.check_shared(own, patience_seconds=0))

        distributed.first(lambda: (folder / f"written-by-{me}").touch())
        def fail():
            raise InputError(f"process {me} can't")
        refused("first", lambda: distributed.first(fail))

        mesh = sharding.make_mesh(config.mesh)
        rows = sharding.local_rows(8, mesh)
        batch = sharding.to_devices({"x": np.arange(8.0)[rows]}, mesh, 8)
        say("rows", rows.tolist())
        total = jax.jit(lambda x: x @ np.arange(8.0))
        say("sum", float(total(batch["x"])))

        # A tower that needs no compiling to speak of: what matters is who feeds it and who gets the result.
        tower = SimpleNamespace(image=None, apply=lambda variables, ids, method: 1.0 * ids * variables["params"])
        texts = encoders.encoders(tower, CLIP_PREPROCESSING, mesh).texts
        ids = np.arange(10).reshape(5, 2)
        say("embedded", encoders.embed(texts, np.float32(3), ids, 4).tolist())

        # Each would choose for itself another way.
        def quick(q, k, v, segments):
            return v
        def slow(q, k, v, segments):
            return v + 0 * jax.lax.fori_loop(0, 2000, lambda _, x: jax.numpy.sin(x), v)
        ways = {"plain": slow, "other": quick} if me == 0 else {"plain": quick, "other": slow}
        case = attention_choice.Case("full", "float32", 1, 4, 1, 8)
        jax.config.update("jax_compilation_cache_dir", str(own))
        say("fastest", attention_choice.fastest(case, ways))

        if me == 1:
            raise InputError("process 1 met a bad record")
        jax.device_get(total(batch["x"]))

cli(meet)
"""


@pytest.fixture
def start(monkeypatch):
    """Starts as many processes as one run, by any function that starts one; kills those that outlive the test."""
    started = []

    def start_all(count, start_one):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", f"localhost:{free.getsockname()[1]}")
        monkeypatch.setenv("JAX_NUM_PROCESSES", str(count))
        for index in range(count):
            monkeypatch.setenv("JAX_PROCESS_ID", str(index))
            started.append(start_one(index))
        return started[-count:]

    yield start_all
    for process in started:
        process.kill()
        process.communicate()


def meeting(folder, *overrides, devices=1):
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
    }
    program = [sys.executable, "-c", MEETING, str(folder), *overrides]
    return subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.exhaustive
def test_two_processes_meet(start, tmp_path):
    ended = [finish(process) for process in start(2, lambda _: meeting(tmp_path, devices=2))]
    # A line of Gloo's may be among them.
    said = [dict(json.loads(line) for line in out.splitlines() if line.startswith('["')) for _, out, _ in ended]
    host = socket.gethostname()
    assert said[0].pop("rows") + said[1].pop("rows") == list(range(8))
    for each in said:
        assert each.pop("unshared").startswith(
            f"process 1 ({host}) can't see what process 0 ({host}) writes into --workdir={tmp_path}/of-process-"
        )
    assert said[0] == said[1]
    assert said[0] == {
        "devices": [2, 2, 4],
        "first": "process 0 can't",
        "sum": 140.0,
        "embedded": [[0, 3], [6, 9], [12, 15], [18, 21], [24, 27]],
        "fastest": "other",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["of-process-0", "of-process-1", "written-by-0"]
    # Process 1 stopped for a reason of its own; process 0, which waited for it, ended when its heartbeats were missed.
    status, _, err = ended[1]
    assert status == 2 and err.splitlines()[-1] == "error: process 1 met a bad record"
    assert ended[0][0] != 0


@pytest.mark.exhaustive
def test_another_config_is_refused_by_both(start, tmp_path):
    for process in start(2, lambda index: meeting(tmp_path, f"mesh.fsdp={1 + index}")):
        status, _, err = finish(process)
        assert status == 2
        assert "config.mesh.fsdp is 2 in process 1" in err.splitlines()[-1]


@pytest.mark.slow
def test_a_process_that_finds_no_others_says_where_it_looked(monkeypatch):
    for name, value in {"COORDINATOR_ADDRESS": "localhost:1", "NUM_PROCESSES": "2", "PROCESS_ID": "1"}.items():
        monkeypatch.setenv(f"JAX_{name}", value)
    program = """
from lrsclip_jax import config as configs
from lrsclip_jax.hosts import distributed
with distributed.joined(configs.load("configs/quickstart.py"), initialization_seconds=1):
    pass
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert found.returncode == 1
    first, *_, last = found.stderr.splitlines()
    assert first == "process 1 of 2: joining the others at localhost:1"
    assert last.startswith("error: process 1 of 2 did not find all others at localhost:1 within 1 s: does the command")


def checkpoints(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdigit())


def kill_after_another_checkpoint(process, workdir):
    before, deadline = checkpoints(workdir), time.monotonic() + 200
    while checkpoints(workdir) == before:
        assert process.poll() is None, finish(process)
        assert time.monotonic() < deadline, "the run stalled before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("lost", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
def test_two_processes_train_the_curve_of_one_and_survive_losses(start, tmp_path, lost):
    steps = 40 if lost else 10
    keys = {"epochs": steps / 5, "checkpoint__every_steps": 10, "train__heartbeat_seconds": 5}

    def training(workdir, **overrides):
        return lambda _: command(workdir, **keys | {"eval__sources": ()} | overrides)

    (whole,) = start(1, training(tmp_path / "whole"))
    status, _, err = finish(whole)
    assert status == 0, err

    # Two pack their texts, each knowing how long the other's are; one pads them.
    shared = tmp_path / "shared"
    if lost:
        survivor, victim = start(2, training(shared, data__packed=True))
        kill_after_another_checkpoint(victim, shared)
        killed = time.monotonic()
        status, _, err = finish(survivor)
        # At once where a collective breaks; else when the other's heartbeats have been missing for long enough.
        assert status != 0 and time.monotonic() - killed < 60, err

        (alone,) = start(1, training(shared))
        kill_after_another_checkpoint(alone, shared)
        alone.communicate()
        assert max(checkpoints(shared)) < steps

    ending = training(shared, data__packed=True, eval__sources="scenes:24:1", eval__every_steps=0)
    ended = [finish(process) for process in start(2, ending)]
    assert [status for status, _, _ in ended] == [0, 0], ended
    _, out, err = ended[0]
    assert ("continuing after step" in err) == lost and "Mean recall: long text" in out
    expected, found = rows(tmp_path / "whole"), rows(shared)
    assert (found.pop(0, None) is None) == lost  # scores before the first step
    assert sorted(expected) == sorted(found) == list(range(1, steps + 1))
    for step in expected:
        assert found[step]["loss"] == pytest.approx(expected[step]["loss"], rel=1e-5)
    assert (shared / "report.html").exists()


# Each holds a term and a draw that one process and two must compute alike; rings cross the processes.
NEWER = {
    "sigmoid ring, rising": {"loss__name": "sigmoid", "loss__form": "ring", "loss__rising": 0.1},
    "gathered, positives, sentences": {
        "loss__form": "gather",
        "loss__same_image": "positive",
        "loss__rising": 0.1,
        "data__long_draw__drop": 0.3,
        "data__long_draw__shuffle": 0.5,
    },
    "text PCA, ring": {"loss__form": "ring", "loss__chunk": 4, "loss__text_pca": 0.9, "loss__text_pca_weight": 0.5},
    "turns": {"data__augmentation__turns": "all"},
    "hard negatives, turns": {"loss__hard_negatives": 0.3, "data__augmentation__turns": "flips"},
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("which", NEWER)
def test_two_processes_compute_newer_losses_and_draws_as_one(start, tmp_path, which):
    keys = NEWER[which] | {"epochs": 1.2, "eval__sources": ()}
    (alone,) = start(1, lambda _: command(tmp_path / "alone", devices=2, **keys))
    assert finish(alone)[0] == 0
    ended = [finish(process) for process in start(2, lambda _: command(tmp_path / "two", data__packed=True, **keys))]
    assert [status for status, _, _ in ended] == [0, 0], ended
    expected, found = rows(tmp_path / "alone"), rows(tmp_path / "two")
    assert sorted(expected) == sorted(found) == list(range(1, 7))
    for step in expected:
        losses = {name for name in expected[step] if name.startswith("loss")}
        assert losses == {name for name in found[step] if name.startswith("loss")}
        for name in losses:
            assert found[step][name] == pytest.approx(expected[step][name], rel=1e-5), (step, name)
