"""SIGTERM, in this process and sent to others: the run saves and leaves, on all processes after the same step."""

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from lrsclip_jax.run import checkpoint, checkpoint_reader, preemption
from lrsclip_jax.run.workdir import steps
from lrsclip_jax.step import TrainState

ABOUT = {"config": {"seed": 0, "batch_size": 8}, "config_hash": "", "preprocessing": {}, "tokenizer": {}}
WORDS = ("begun", "continued")
KEEP = ConfigDict({"keep": 1, "keep_every_minutes": None, "best": None, "keep_best": 1})


def test_the_signal_is_seen_once_and_then_means_what_it_meant():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("outside"))
    try:
        with preemption.watch() as preempted:
            assert not preempted()
            os.kill(os.getpid(), signal.SIGTERM)
            assert preempted() and preempted() and not heard
        with preemption.watch() as preempted:
            assert not preempted()
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == ["outside"]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_ctrl_c_is_put_off_once_and_then_means_what_it_meant(capfd):
    before = signal.getsignal(signal.SIGINT)
    with preemption.watch() as signalled:
        os.kill(os.getpid(), signal.SIGINT)
        deadline = time.monotonic() + 5
        while not signalled() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert signalled() and signalled.asked is signal.SIGINT
        os.kill(os.getpid(), signal.SIGTERM)
        assert signalled.asked is signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is before
    assert capfd.readouterr().err.count("once more ends it at once") == 1
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)


def test_a_second_ctrl_c_ends_the_process_in_native_code_too():
    code = (
        "import time, numpy as np\nfrom lrsclip_jax.run import preemption\nwith preemption.watch():\n"
        "    print('begun', flush=True)\n    np.linalg.svd(np.random.default_rng(0).random((3000, 3000)))\n"
    )
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(__file__).parents[2])}
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        for _ in range(2):
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=5)
    assert process.returncode == 130 and said.splitlines()[-1] == "interrupted"


def test_one_process_is_answered_at_once_and_several_a_step_late(monkeypatch):
    flags = iter([False, True, False, False])
    alone = preemption.any_process(lambda: next(flags))
    assert [alone() for _ in range(4)] == [False, True, False, False]
    # As each of several processes: what this one says travels over the devices.
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    flags = iter([False, True, False, False])
    several = preemption.any_process(lambda: next(flags))
    assert [several() for _ in range(4)] == [False, False, True, False]


def train(run, address, processes, process):
    """A run that only counts; rows of its one parameter live on different processes."""
    if processes > 1:
        jax.distributed.initialize(address, processes, process)
    mesh = jax.make_mesh((processes,), ("data",), axis_types=(AxisType.Auto,))
    whole, split = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
    shardings = TrainState(step=whole, params={"w": split}, opt_state={"count": whole}, skipped=whole)
    zeros = TrainState(
        step=np.int32(0), params={"w": np.zeros((2, 3))}, opt_state={"count": np.int32(0)}, skipped=np.int32(0)
    )
    like = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(
            leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype), sharding=sharding
        ),
        zeros,
        shardings,
    )
    checkpoints = checkpoint.open_checkpoints(epath.Path(run), KEEP)
    state = checkpoint_reader.restore(checkpoints, like, ABOUT)
    continued = state is not None
    if not continued:
        state = jax.jit(lambda: zeros, out_shardings=shardings)()
    update = jax.jit(
        lambda state: jax.tree.map(lambda leaf: leaf + 1, state).replace(skipped=state.skipped), out_shardings=shardings
    )
    with checkpoint.closing(checkpoints), preemption.watch() as signalled:
        preempted = preemption.any_process(signalled)
        print(WORDS[continued], flush=True)
        for step in itertools.count(int(state.step) + 1):
            state = update(state)
            time.sleep(0.01)
            if preempted():
                checkpoint.save(checkpoints, state, step, ABOUT)
                break
    for shard in state.params["w"].addressable_shards:
        np.testing.assert_array_equal(shard.data, step)
    print(step, flush=True)
    sys.exit(143)


def processes(run, count):
    """Starts a run of `count` processes, ends the last of them by SIGTERM; returns what all print."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    running = [
        subprocess.Popen(
            [sys.executable, __file__, run, address, str(count), str(process)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(count)
    ]
    try:
        # Gloo prints lines of its own.
        first = [next(word for line in process.stdout if (word := line.strip()) in WORDS) for process in running]
        time.sleep(0.3)
        running[-1].send_signal(signal.SIGTERM)
        ends = [process.communicate(timeout=60) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [143] * count, ends
    return first, {int(out.split()[-1]) for out, _ in ends}


def test_a_signalled_run_saves_and_leaves(tmp_path):
    begun, (stopped,) = processes(tmp_path, 1)
    assert begun == ["begun"] and steps(epath.Path(tmp_path)) == [stopped]


@pytest.mark.exhaustive  # in CI one process, and hosts/test_distributed.py
def test_two_processes_save_after_the_same_step_and_one_goes_on(tmp_path):
    begun, (stopped,) = processes(tmp_path, 2)
    assert begun == ["begun"] * 2 and steps(epath.Path(tmp_path)) == [stopped]
    begun, (later,) = processes(tmp_path, 1)
    assert begun == ["continued"] and steps(epath.Path(tmp_path)) == [later] and later > stopped


if __name__ == "__main__":
    train(*sys.argv[1:3], *map(int, sys.argv[3:]))
