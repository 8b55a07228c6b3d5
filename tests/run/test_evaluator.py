"""The evaluator: when it is due, before a checkpoint or after it, and what it keeps of its scores."""

import contextlib
import json
from types import SimpleNamespace

import pytest
from etils import epath

from lrsclip_jax.run.evaluator import Evaluator
from lrsclip_jax.run.nonfinite import NotFinite

NAMES = {"mean_recall": 50.0, "text_to_image": {"R@1": 40.0}, "image_to_text": {"R@1": 60.0}}
SCORES = {
    "eval/set/long/mean_recall": 50.0,
    "eval/set/long/text_to_image/R@1": 40.0,
    "eval/set/long/image_to_text/R@1": 60.0,
}


class Around:
    """Stands for the recorder and the watchdog, and notes what happens."""

    def __init__(self, broken=False):
        self.events, self.broken = [], broken

    @contextlib.contextmanager
    def aside(self, part):
        if self.broken:
            raise NotFinite("loss is nan", 5)
        self.events.append(f"read, then {part}")
        yield

    @contextlib.contextmanager
    def paused(self):
        self.events.append("paused")
        yield
        self.events.append("armed")

    def write(self, step, values):
        self.events.append((step, values))


def evaluator(folder, around=None, every_steps=4, decides=False, at_start=False):
    around = around or Around()

    def score(params):
        around.events.append(params)
        row = SimpleNamespace(name="long", metrics=NAMES)
        return [SimpleNamespace(heldout=SimpleNamespace(name="set"), rows=[row], zeroshot=None)]

    return Evaluator(
        score,
        around,
        around,
        epath.Path(folder),
        every_steps=every_steps,
        total_steps=10,
        decides=decides,
        at_start=at_start,
    )


@pytest.mark.parametrize(("every_steps", "steps"), [(4, [4, 8, 10]), (0, [10]), (5, [5, 10])])
def test_scores_that_decide_come_before_the_checkpoint_and_others_after(tmp_path, every_steps, steps):
    for decides in (True, False):
        asked = evaluator(tmp_path, every_steps=every_steps, decides=decides)
        before = [step for step in range(1, 11) if asked.due_before_save(step)]
        after = [step for step in range(1, 11) if asked.due_after_save(step)]
        assert (before, after) == ((steps, []) if decides else ([], steps))


def test_an_evaluation_is_written_and_kept(tmp_path):
    around = Around()
    asked = evaluator(tmp_path, around)
    assert asked.tables is None
    assert asked.evaluate("params", 4) == SCORES
    assert around.events == ["read, then evaluation", "paused", "params", "armed", (4, SCORES)]
    assert [table.heldout.name for table in asked.tables] == ["set"]


def test_parameters_that_may_not_be_finite_are_not_scored(tmp_path):
    around = Around(broken=True)
    asked = evaluator(tmp_path, around)
    with pytest.raises(NotFinite):
        asked.evaluate("params", 4)
    assert around.events == [] and asked.tables is None


def write_rows(folder, *rows):
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_run_that_ended_between_a_checkpoint_and_its_scores_has_missed_them(tmp_path):
    asked = evaluator(tmp_path)
    write_rows(tmp_path, {"step": 4, "loss": 1.0}, {"step": 4} | SCORES, {"step": 8, "loss": 1.0})
    assert [done for done in range(10) if asked.missed(done)] == [8]
    write_rows(tmp_path, {"step": 8} | SCORES)
    assert [done for done in range(10) if asked.missed(done)] == [4]


def test_a_new_run_has_missed_nothing_and_a_finished_one_is_evaluated_again(tmp_path):
    asked = evaluator(tmp_path)
    write_rows(tmp_path, {"step": 10} | SCORES)
    assert not asked.missed(0) and asked.missed(10)


def test_the_scores_of_a_finished_run_are_not_written_again(tmp_path):
    around = Around()
    asked = evaluator(tmp_path, around)
    write_rows(tmp_path, {"step": 10} | SCORES)
    assert asked.missed(10) and asked.evaluate("params", 10) == SCORES
    assert (10, SCORES) not in around.events
    write_rows(tmp_path, {"step": 10, "loss": 1.0})  # it was killed before its last evaluation
    assert asked.missed(10) and asked.evaluate("params", 10) == SCORES
    assert (10, SCORES) in around.events


def test_a_run_that_continues_after_scores_writes_the_next_ones(tmp_path):
    around = Around()
    asked = evaluator(tmp_path, around)
    write_rows(tmp_path, {"step": 4} | SCORES)
    assert not asked.missed(4) and asked.evaluate("params", 8) == SCORES
    assert (8, SCORES) in around.events


@pytest.mark.parametrize("every_steps", [0, 4])
def test_a_new_run_evaluates_before_its_first_step_where_it_is_asked_to_and_only_once(tmp_path, every_steps):
    around = Around()
    asked = evaluator(tmp_path, around, every_steps, at_start=True)
    assert asked.missed(0) and asked.evaluate("params", 0) == SCORES
    assert (0, SCORES) in around.events
    write_rows(tmp_path, {"step": 0} | SCORES)  # killed before its first checkpoint, it begins again
    again = evaluator(tmp_path, around, every_steps, at_start=True)
    assert not again.missed(0)
    assert again.evaluate("params", 10) == SCORES and (10, SCORES) in around.events


def test_a_run_of_an_older_version_goes_on_without_scores_of_its_start(tmp_path):
    asked = evaluator(tmp_path, at_start=True)
    write_rows(tmp_path, {"step": 4} | SCORES, {"step": 5, "loss": 1.0})
    assert [done for done in range(1, 10) if asked.missed(done)] == [8]
