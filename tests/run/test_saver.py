"""The saver: when a checkpoint is due, and which state it holds."""

import contextlib
import time

import jax
import numpy as np
import pytest
from etils import epath
from ml_collections import ConfigDict

from lrsclip_jax.run import checkpoint, checkpoint_reader, saver
from lrsclip_jax.run.nonfinite import NotFinite
from lrsclip_jax.run.saver import Saver
from lrsclip_jax.run.workdir import steps
from lrsclip_jax.step import TrainState

ABOUT = {"config": {"seed": 0, "batch_size": 8}, "config_hash": "", "preprocessing": {}, "tokenizer": {}}
CONFIG = ConfigDict(
    {"every_steps": 10, "every_minutes": 5.0, "keep": 9, "keep_every_minutes": None, "best": None, "keep_best": 1}
)


class Recorder:
    """Stands for the recorder: `broken` is the step that it finds not to have been finite."""

    def __init__(self):
        self.broken, self.parts = None, []

    @contextlib.contextmanager
    def aside(self, part):
        if self.broken:
            raise NotFinite("loss is nan", self.broken)
        self.parts.append(part)
        yield


def state(step, skipped=0):
    arrays = TrainState(
        np.int32(step), {"w": np.full(3, step, np.float32)}, {"count": np.int32(step)}, np.int32(skipped)
    )
    return jax.device_put(arrays)


@pytest.fixture
def now(monkeypatch):
    """The time in seconds, which stands still."""
    seconds = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: seconds[0])
    return seconds


@pytest.fixture
def run(tmp_path, now):
    """A saver after step 3 of 45, its recorder, and its checkpoints."""
    recorder = Recorder()
    checkpoints = checkpoint.open_checkpoints(epath.Path(tmp_path), CONFIG)
    with checkpoint.closing(checkpoints):
        yield Saver(checkpoints, ABOUT, recorder, CONFIG, done=3, total_steps=45), recorder, checkpoints


def test_it_is_due_every_few_steps_and_after_the_last(run):
    asked, _, _ = run
    assert [step for step in range(4, 46) if asked.due(step)] == [10, 20, 30, 40, 45]


def test_it_is_due_when_the_last_save_is_minutes_old(run, now):
    asked, recorder, _ = run
    now[0] += 299
    assert not asked.due(5)
    now[0] += 2
    assert asked.due(6)
    asked.save(state(6), 6)
    assert recorder.parts == ["checkpoint"]
    assert not asked.due(7) and not asked.due(8)
    now[0] += 301
    assert asked.due(9)


def test_several_processes_that_learn_of_their_clocks_a_step_late_save_once(tmp_path, now, monkeypatch):
    def a_step_late(flag):
        answers = [False]

        def agreed():
            answers.append(flag())
            return answers.pop(0)

        return agreed

    monkeypatch.setattr(saver, "any_process", a_step_late)
    checkpoints = checkpoint.open_checkpoints(epath.Path(tmp_path), CONFIG)
    with checkpoint.closing(checkpoints):
        asked = Saver(checkpoints, ABOUT, Recorder(), CONFIG, done=3, total_steps=45)
        now[0] += 301
        saved = []
        for step in range(4, 9):
            if asked.due(step):
                asked.save(state(step), step)
                saved.append(step)
    assert saved == [5]


def test_a_state_that_may_not_be_finite_is_not_saved(run, tmp_path):
    asked, recorder, checkpoints = run
    asked.save(state(10), 10)
    recorder.broken = 12
    with pytest.raises(NotFinite):
        asked.save(state(11, skipped=1), 20)
    checkpoints.wait()
    assert steps(epath.Path(tmp_path)) == [10]


def test_the_state_before_a_step_that_was_not_finite_is_saved_as_it_was(run, tmp_path):
    asked, recorder, checkpoints = run
    recorder.broken = 12
    asked.save_before(state(11, skipped=3), 12)
    checkpoints.wait()
    assert steps(epath.Path(tmp_path)) == [11]
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state(0))
    restored = checkpoint_reader.restore(checkpoints, like, ABOUT)
    jax.tree.map(np.testing.assert_array_equal, restored, state(11, skipped=2))


def test_a_state_that_is_saved_already_or_is_the_first_is_not_saved_again(run, tmp_path):
    asked, _, checkpoints = run
    asked.save_before(state(0, skipped=1), 1)
    assert steps(epath.Path(tmp_path)) == []
    asked.save(state(11), 11)
    asked.save_before(state(11, skipped=1), 12)
    checkpoints.wait()
    assert steps(epath.Path(tmp_path)) == [11]


def test_scores_decide_which_checkpoint_stays(tmp_path):
    config = ConfigDict(CONFIG.to_dict() | {"keep": 1, "best": "eval/set/long/mean_recall"})
    checkpoints = checkpoint.open_checkpoints(epath.Path(tmp_path), config)
    with checkpoint.closing(checkpoints):
        asked = Saver(checkpoints, ABOUT, Recorder(), config, done=0, total_steps=45)
        for step, recall in ((10, 30.0), (20, 50.0), (30, 40.0), (40, None)):
            asked.save(state(step), step, recall and {"eval/set/long/mean_recall": recall})
    assert steps(epath.Path(tmp_path)) == [20, 40]
