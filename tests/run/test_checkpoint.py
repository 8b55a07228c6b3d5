"""Saving and keeping: what stays, what is left by a kill or a full disk, on other devices."""

import dataclasses
import errno
import gc
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from saved_states import (
    about,
    assert_equal,
    data_file,
    keeping,
    restored,
    saved,
    state,
    there,
)

from lrsclip_jax.errors import InputError
from lrsclip_jax.run import checkpoint, checkpoint_reader, manifest


def test_a_state_restores_from_either_memory_into_the_other(tmp_path):
    on = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))

    def shardings(kind):
        near = NamedSharding(on, PartitionSpec())
        everywhere = jax.tree.map(lambda leaf: near, state(0))
        moment = near.with_memory_kind(kind)
        return everywhere.replace(opt_state=[{"momentum": {"image": {"kernel": moment}}}, {"count": near}])

    for before, after in (("pinned_host", "device"), ("device", "pinned_host")):
        run = epath.Path(tmp_path / before)
        checkpoints = checkpoint.open_checkpoints(run, keeping())
        with checkpoint.closing(checkpoints):
            checkpoint.save(checkpoints, state(1, shardings=shardings(before)), 1, about())
        found = restored(run, state(0, shardings=shardings(after)))
        assert_equal(found, state(1))
        assert found.opt_state[0]["momentum"]["image"]["kernel"].sharding.memory_kind == after


@pytest.mark.slow
def test_a_state_that_was_saved_does_not_stay_in_memory(tmp_path):
    checkpoints = checkpoint.open_checkpoints(epath.Path(tmp_path), keeping())
    with checkpoint.closing(checkpoints):
        alive = []
        for step in (1, 2, 3):
            each = state(step)
            alive += [weakref.ref(leaf) for leaf in jax.tree.leaves(each)]
            checkpoint.save(checkpoints, each, step, about())
            del each
        checkpoints.wait()
        gc.collect()
        assert not [found.shape for ref in alive if (found := ref()) is not None and found.ndim]


def test_the_bundle(tmp_path):
    run = epath.Path(tmp_path)
    checkpoints = checkpoint.open_checkpoints(run, keeping())
    assert checkpoint_reader.restore(checkpoints, state(0), about()) is None
    with checkpoint.closing(checkpoints):
        checkpoint.save(checkpoints, state(7, skipped=2), 7, about(seed=3))
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state(0))
    assert_equal(restored(run, shapes), state(7, skipped=2))
    assert_equal(checkpoint_reader.load_params(run / "checkpoints" / "7", shapes.params), state(7).params)

    found = checkpoint_reader.read_metadata(checkpoint_reader.find(str(run)))
    batch_size = found["config"]["batch_size"]
    assert found["step"] == 7 and found["skipped"] == 2 and found["data"] == {"seed": 3, "sample": 7 * batch_size}
    assert (
        found["config"]["seed"] == 3 and found["config_hash"] == about(seed=3)["config_hash"] != about()["config_hash"]
    )
    assert found["preprocessing"]["mean"] == [0.5] * 3 and found["tokenizer"]["hash"] == "abc"


def test_the_average_is_what_others_read_and_both_are_restored(tmp_path):
    run, plain = epath.Path(tmp_path), state(7)
    averaged = dataclasses.replace(plain, ema=state(8).params)
    checkpoints = checkpoint.open_checkpoints(run, keeping())
    with checkpoint.closing(checkpoints):
        checkpoint.save(checkpoints, averaged, 7, about())
    assert_equal(checkpoint_reader.load_params(run / "checkpoints" / "7", plain.params), state(8).params)
    assert_equal(restored(run, averaged), averaged)
    assert_equal(restored(run, plain), plain)  # train.ema is set no more


def test_an_average_that_is_set_later_begins_at_the_weights(tmp_path):
    saved(epath.Path(tmp_path), 7)
    wanted = dataclasses.replace(state(0), ema=state(0).params)
    assert_equal(restored(epath.Path(tmp_path), wanted), dataclasses.replace(state(7), ema=state(7).params))


def test_a_step_that_reuses_the_buffers_leaves_the_save_alone(tmp_path):
    run = epath.Path(tmp_path)
    step = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 0 - 1, tree), donate_argnums=0)
    first = state(1, (1024, 1024))
    checkpoints = checkpoint.open_checkpoints(run, keeping())
    with checkpoint.closing(checkpoints):
        checkpoint.save(checkpoints, first, 1, about())
        jax.block_until_ready(step(first.params))
        for leaf in jax.tree.leaves(first.opt_state):
            leaf.delete()
    assert_equal(restored(run, state(0, (1024, 1024))), state(1, (1024, 1024)))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "best"), [("eval/a/mean_recall", max), ("loss", min)])
def test_the_newest_and_the_best_stay_over_restarts(tmp_path, name, best):
    # Every second checkpoint has the metric, one of them a NaN; ties go to the later.
    values = dict(zip(range(2, 17, 2), (5.0, 1.0, 7.0, float("nan"), 7.0, 2.0, 1.0, 3.0), strict=True))
    metrics = {step: {name: values[step]} if step in values else {"other": 1.0} for step in range(1, 17)}
    for first in range(1, 17, 4):
        ranked = {step: value for step, value in values.items() if step < first + 4 and value == value}
        expected = {first + 2, first + 3}
        for _ in range(2):
            winner = best(ranked, key=lambda step: (ranked[step], step if best is max else -step))
            expected.add(winner)
            del ranked[winner]
        found = saved(epath.Path(tmp_path), *range(first, first + 4), metrics=metrics, best=name, keep_best=2)
        assert found == sorted(expected)


def test_one_of_every_so_many_minutes_stays(tmp_path):
    run = epath.Path(tmp_path)
    assert saved(run, 1, 2, 3, 4, 5, keep=5) == [1, 2, 3, 4, 5]
    for step, hour in ((1, 0), (2, 1), (3, 2), (4, 3), (5, 4)):  # they might have been saved at these times
        file = run / "checkpoints" / str(step) / "_CHECKPOINT_METADATA"
        times = {"commit_timestamp_nsecs": int((time.time() - 3600 * (5 - hour)) * 1e9)}
        file.write_text(json.dumps(json.loads(file.read_text()) | times))
    assert saved(run, 6, keep=1, keep_every_minutes=119.0) == [1, 3, 5, 6]
    assert saved(run, 7, keep=1, keep_every_minutes=119.0) == [1, 3, 5, 7]


def test_another_metric_may_become_the_one_that_counts(tmp_path):
    metrics = {step: {"a": float(step), "loss": float(step)} for step in range(1, 7)}
    assert saved(epath.Path(tmp_path), 1, 2, 3, metrics=metrics, keep=1, best="loss", keep_best=1) == [1, 3]
    assert saved(epath.Path(tmp_path), 4, metrics=metrics, keep=1, best="new", keep_best=1) == [4]


@pytest.mark.parametrize("keys", [{"keep": 0}, {"best": "loss", "keep_best": 0}])
def test_nothing_to_keep_is_an_error(tmp_path, keys):
    with pytest.raises(InputError, match="checkpoint.keep.* is 0: it must be at least 1"):
        checkpoint.open_checkpoints(epath.Path(tmp_path), keeping(**keys))


def test_a_save_that_failed_in_the_background_is_reported_by_the_next(tmp_path, monkeypatch):
    run = epath.Path(tmp_path)
    assert saved(run, 1, 2) == [1, 2]

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    checkpoints = checkpoint.open_checkpoints(run, keeping())
    with checkpoint.closing(checkpoints):
        with monkeypatch.context() as patch:
            patch.setattr(manifest, "write", full)
            checkpoint.save(checkpoints, state(3), 3, about())
            with pytest.raises(InputError, match="no space left on device.; earlier ones are intact"):
                checkpoint.save(checkpoints, state(4), 4, about())
        assert there(run) == [1, 2]
        checkpoint.save(checkpoints, state(5), 5, about())
    assert_equal(restored(run), state(5))


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    run = epath.Path(tmp_path)
    checkpoints = checkpoint.open_checkpoints(run, keeping())
    (run / "checkpoints").rename(run / "elsewhere")
    (run / "checkpoints").write_text("a file")
    with pytest.raises(InputError, match=f"can't write a checkpoint to {run}/checkpoints .*Not a directory"):
        with checkpoint.closing(checkpoints):
            checkpoint.save(checkpoints, state(3), 3, about())


def test_an_error_in_the_loop_waits_for_the_save_and_stays_the_error(tmp_path):
    checkpoints = checkpoint.open_checkpoints(epath.Path(tmp_path), keeping())
    with pytest.raises(ZeroDivisionError), checkpoint.closing(checkpoints):
        checkpoint.save(checkpoints, state(1), 1, about())
        raise ZeroDivisionError
    assert_equal(restored(epath.Path(tmp_path)), state(1))


def save_without_end(run):
    checkpoints = checkpoint.open_checkpoints(epath.Path(run), keeping(keep=1))
    first = there(run)[-1] if there(run) else 0
    for step in range(first + 1, 10_000):
        checkpoint.save(checkpoints, state(step), step, about())


@pytest.mark.slow
def test_killed_while_saving_and_deleting(tmp_path):
    run, rng = epath.Path(tmp_path), np.random.default_rng(0)
    # A server that has imported everything forks each child in a moment, before any has a device.
    children = multiprocessing.get_context("forkserver")
    children.set_forkserver_preload(["lrsclip_jax.run.checkpoint"])
    for _ in range(3):
        before = max(there(run), default=0)
        child = children.Process(target=save_without_end, args=(os.fspath(run),))
        child.start()
        deadline = time.monotonic() + 60
        while max(there(run), default=0) <= before:
            assert child.is_alive() and time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.2))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        newest = there(run)[-1]
        assert newest > before
        assert_equal(restored(run), state(newest))
    folder = run / "checkpoints"
    shutil.copytree(folder / str(newest), folder / f"{newest + 9}.orbax-checkpoint-tmp")  # as a kill may leave it
    assert saved(run, newest + 1, keep=1) == [newest + 1]
    assert [path.name for path in folder.iterdir()] == [str(newest + 1)]  # no remains


def sharded(devices, fsdp, like):
    mesh = jax.make_mesh(
        (len(devices) // fsdp, fsdp), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2, devices=devices
    )
    return jax.tree.map(lambda leaf: NamedSharding(mesh, PartitionSpec("fsdp") if leaf.ndim else PartitionSpec()), like)


def on_eight_devices(run):
    """8 devices save, 4 go on, and 8 again with another split; then a replicated copy on one."""
    devices = jax.devices()
    assert len(devices) == 8
    for step, (count, fsdp) in enumerate(((8, 4), (4, 2), (8, 8), (1, 1)), start=1):
        shardings = sharded(devices[:count], fsdp, state(0))
        checkpoints = checkpoint.open_checkpoints(run, keeping())
        with checkpoint.closing(checkpoints):
            found = checkpoint_reader.restore(checkpoints, state(0, shardings=shardings), about())
            if step > 1:
                assert_equal(found, state(step - 1))
                assert jax.tree.map(lambda leaf: leaf.sharding, found) == shardings
            checkpoint.save(checkpoints, state(step, shardings=shardings), step, about())


def on_a_damaged_disk(run):
    """Bytes that are there, but not those that were written, are one line, also where a manifest has sizes alone."""
    folder = Path(run) / "checkpoints" / "4"
    file = data_file(folder)
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(
        InputError, match=r"checkpoints/4 can't be read \(params/\S+ is damaged.*\): remove this folder"
    ):
        restored(run)
    found = json.loads((folder / "manifest.json").read_text())
    sizes = {name: found[name][0] for name in found if name not in ("crc32", manifest.METADATA)}
    (folder / "manifest.json").write_text(json.dumps(sizes))
    with pytest.raises(
        InputError, match=r"checkpoints/4 can't be read \(.+\): if this persists, remove this folder to"
    ):
        restored(run)


def on_a_small_disk(run):
    """The disk is full in the second save: one line, the first is intact, and a later start saves again."""
    small, large = (128, 128), (1024, 1024)
    checkpoints = checkpoint.open_checkpoints(run, keeping())
    with pytest.raises(InputError, match="no space left on device.; earlier ones are intact$") as error:
        with checkpoint.closing(checkpoints):
            checkpoint.save(checkpoints, state(1, small), 1, about())
            checkpoint.save(checkpoints, state(2, large), 2, about())
    assert "\n" not in str(error.value)
    assert there(run) == [1]
    assert_equal(restored(run, state(0, small)), state(1, small))
    checkpoints = checkpoint.open_checkpoints(run, keeping())
    with checkpoint.closing(checkpoints):
        checkpoint.save(checkpoints, state(2, small), 2, about())
    assert_equal(restored(run, state(0, small)), state(2, small))


def child(*words):
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "8",
        "PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[1:3])),
    }
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.exhaustive
def test_on_other_numbers_of_devices_and_on_a_small_disk(tmp_path):
    (tmp_path / "disk").mkdir()
    program = [sys.executable, __file__, str(tmp_path / "run"), str(tmp_path / "disk")]
    mount = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=2m tmpfs "$0" && exec "$@"', program[-1]]
    can_mount = shutil.which("unshare") and child(*mount, "true").returncode == 0
    done = child(*mount, *program) if can_mount else child(*program[:-1])
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    on_eight_devices(epath.Path(sys.argv[1]))
    on_a_damaged_disk(epath.Path(sys.argv[1]))
    if len(sys.argv) > 2:
        on_a_small_disk(epath.Path(sys.argv[2]))
