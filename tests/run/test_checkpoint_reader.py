"""Restoring: from torn, damaged and foreign checkpoints, which are one line each."""

import json
import os
import shutil
import threading
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from saved_states import assert_equal, data_file, restored, saved, state

from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.errors import InputError
from lrsclip_jax.run import manifest


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A run with checkpoints 1 and 2."""
    run = epath.Path(tmp_path_factory.mktemp("two"))
    assert saved(run, 1, 2, metrics={1: {"loss": 0.5}, 2: {"loss": 0.4}}) == [1, 2]
    return run


@pytest.fixture
def run(two, tmp_path):
    """A copy of it, to be torn."""
    return epath.Path(shutil.copytree(two, tmp_path / "run"))


TEARS = {
    "cut array": (lambda folder: os.truncate(data_file(folder), 100), r"params/\S+ has 100 bytes of \d+"),
    "missing array": (lambda folder: data_file(folder).unlink(), r"params/\S+ is missing"),
    "no optimizer": (lambda folder: shutil.rmtree(folder / "optimizer"), r"optimizer/\S+ is missing"),
    "no JSON": (lambda folder: (folder / "_CHECKPOINT_METADATA").unlink(), "_CHECKPOINT_METADATA is missing"),
    "cut JSON": (lambda folder: os.truncate(folder / "_CHECKPOINT_METADATA", 50), "_CHECKPOINT_METADATA: not JSON"),
    "empty": (lambda folder: [shutil.rmtree(folder), folder.mkdir()], "its JSON is missing or cut off"),
}


@pytest.mark.parametrize("tear", TEARS)
def test_a_torn_checkpoint_is_one_line_and_the_one_before_serves(run, tear):
    destroy, reason = TEARS[tear]
    destroy(Path(run) / "checkpoints" / "2")
    remedy = "remove this folder to continue from step 1"
    with pytest.raises(InputError, match=rf"checkpoints/2 can't be read \(.*{reason}.*\): .*{remedy}$") as error:
        restored(run)
    assert "\n" not in str(error.value)
    (run / "checkpoints" / "2").rmtree()
    assert_equal(restored(run), state(1))
    assert saved(run, 2) == [1, 2]


def files_of(folder):
    """What is read of a checkpoint, with the manifest: without Orbax's markers, of which nobody reads the content."""
    return sorted(file for file in folder.rglob("*") if file.is_file() and file.name != "commit_success.txt")


def test_one_flipped_bit_is_noticed_wherever_it_is(run):
    rng = np.random.default_rng(0)
    folder = Path(run) / "checkpoints" / "2"
    for file in files_of(folder):
        kept = file.read_bytes()
        for at in rng.choice(8 * len(kept), 3, replace=False):
            damaged = bytearray(kept)
            damaged[at // 8] ^= 1 << at % 8
            file.write_bytes(damaged)
            with pytest.raises(InputError, match=file.name) as error:
                restored(run)
            assert "\n" not in str(error.value)
        file.write_bytes(kept)
    assert_equal(restored(run), state(2))


def test_the_manifest_waits_for_the_metadata_which_orbax_writes_in_a_thread_of_its_own(tmp_path):
    def written(**found):
        (tmp_path / manifest.METADATA).write_text(json.dumps({"init_timestamp_nsecs": 1} | found))

    about = {"step": 7, "shape": (1, 2), "score": float("nan")}  # as JSON, a list and a number unequal to itself
    written(custom_metadata=None)
    writing = threading.Thread(target=manifest.write, args=(epath.Path(tmp_path), about))
    writing.start()
    time.sleep(0.05)
    (tmp_path / manifest.METADATA).write_text('{"init_timestamp_ns')  # a moment of a write
    time.sleep(0.05)
    assert writing.is_alive() and not (tmp_path / manifest.NAME).exists()
    written(custom_metadata=about, item_handlers={"params": "a"})
    writing.join(20)
    written(custom_metadata=about, item_handlers={"params": "a"}, commit_timestamp_nsecs=5)
    assert manifest.damage(epath.Path(tmp_path)) is None
    written(custom_metadata=about, item_handlers={"params": "b"}, commit_timestamp_nsecs=5)
    assert "is damaged" in manifest.damage(epath.Path(tmp_path))


def test_a_manifest_of_sizes_alone_still_counts(run):
    folder = Path(run) / "checkpoints" / "2"
    sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in files_of(folder)}
    del sizes[manifest.NAME], sizes[manifest.METADATA]
    (folder / "manifest.json").write_text(json.dumps(sizes))
    assert_equal(restored(run), state(2))
    os.truncate(data_file(folder), 100)
    with pytest.raises(
        InputError, match=r"checkpoints/2 can't be read \(params/\S+ has 100 bytes of .*remove this folder"
    ):
        restored(run)


def test_on_an_object_store_a_manifest_has_sizes(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "_checks_itself", lambda folder: True)
    run = epath.Path(tmp_path)
    assert saved(run, 1, metrics={1: {"loss": 0.5}}) == [1]
    folder = tmp_path / "checkpoints" / "1"
    found = json.loads((folder / "manifest.json").read_text())
    assert found["metrics/metrics"] == 13 and all(isinstance(size, int) for size in found.values())
    assert_equal(restored(run), state(1))
    os.truncate(data_file(folder), 100)
    with pytest.raises(InputError, match="params/.* has 100 bytes of"):
        restored(run)


def test_a_torn_manifest_costs_no_checkpoint(run):
    manifest_file = Path(run) / "checkpoints" / "2" / "manifest.json"
    os.truncate(manifest_file, 50)
    with pytest.raises(InputError, match=f"checkpoints/2 can't be checked .manifest.json: .*: remove {manifest_file}"):
        restored(run)
    manifest_file.unlink()
    assert_equal(restored(run), state(2))


def test_torn_metrics_are_one_line(run):
    os.truncate(run / "checkpoints" / "1" / "metrics" / "metrics", 5)
    with pytest.raises(InputError, match="checkpoints/1/metrics/metrics can't be read .*5 bytes of 13.: remove this"):
        restored(run)
    (run / "checkpoints" / "1" / "manifest.json").unlink()  # as older versions had none
    with pytest.raises(InputError, match="checkpoints/1/metrics/metrics can't be read .not readable JSON.*: remove"):
        restored(run)
    (run / "checkpoints" / "1" / "metrics" / "metrics").unlink()
    assert saved(run, 3, keep=1, best="loss") == [2, 3]


def test_what_does_not_fit_is_one_line(two):
    with pytest.raises(InputError, match=r"holds another model: image/kernel is \(48, 8\) there, \(48, 9\) here"):
        restored(two, state(0, (48, 9)))
    optimizer = state(0).replace(opt_state=[{"mu": state(0).params}, {"count": jnp.int32(0)}])
    with pytest.raises(InputError, match=r"the state of another optimizer: 0/momentum\S+ is \(48, 8\) there, absent"):
        restored(two, optimizer)


def test_other_weights_under_the_same_config_are_found_out(two):
    other = Preprocessing(32, (0.4, 0.5, 0.5), (0.25, 0.25, 0.25))
    with pytest.raises(InputError, match=r"another preprocessing \(mean: \[0.5, 0.5, 0.5\] there, \[0.4, .*model.init"):
        restored(two, preprocessing=other)
    assert_equal(restored(two, preprocessing=other, seed=1), state(2))  # a branch has another config
