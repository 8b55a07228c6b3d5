"""Forgetting: which scores are watched, when a warning comes, and what metrics and report keep of it."""

import json

import pytest
from etils import epath

from lrsclip_jax.run.forgetting import Forgetting, below, sentences

START = {
    "eval/set/long/mean_recall": 20.0,
    "eval/set/long/text_to_image/R@1": 10.0,
    "eval/set/zeroshot/accuracy": 70.0,
}


def test_a_score_may_fall_by_its_margin_and_no_further():
    watched = [("eval/set/zeroshot/accuracy", 2.0)]
    assert below(START, {"eval/set/zeroshot/accuracy": 68.0}, watched) == {}
    assert below(START, {"eval/set/zeroshot/accuracy": 67.9}, watched) == {"eval/set/zeroshot/accuracy": 2.0}
    assert below({}, {"eval/set/zeroshot/accuracy": 0.0}, watched) == {}


def test_mean_recall_and_accuracy_are_watched_by_themselves_and_nothing_where_that_is_asked_for():
    now = dict.fromkeys(START, 0.0) | {"eval/set/long, first 20 tokens/mean_recall": 0.0}
    assert [*below(START, now)] == ["eval/set/long/mean_recall", "eval/set/zeroshot/accuracy"]
    assert below(START, now, ()) == {}
    assert below(START, {name: score - 1 for name, score in START.items()}) == {}


def test_a_warning_names_the_score_its_start_the_step_and_what_to_try(tmp_path, capsys):
    guard = Forgetting(epath.Path(tmp_path), None)
    assert guard.check(0, START) == {} and guard.check(5, START | {"eval/set/long/mean_recall": 30.0}) == {}
    assert capsys.readouterr().err == ""
    fallen = guard.check(10, START | {"eval/set/zeroshot/accuracy": 41.25})
    assert fallen == {"forgotten/set/zeroshot/accuracy": 28.75}
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "warning: step 10: eval/set/zeroshot/accuracy is 41.25, below its start of 70.00 by more than 1: "
    )
    assert all(advice in line for advice in ("learning_rate", "LoRA", "loss.preserve", "lrsclip interpolate"))


@pytest.mark.parametrize(("rows", "fires"), [([{"step": 0} | START], True), ([{"step": 4, "loss": 1.0}], False)])
def test_a_continued_run_finds_its_start_in_its_metrics(tmp_path, capsys, rows, fires):
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    guard = Forgetting(epath.Path(tmp_path), [("eval/set/long/mean_recall", 0.0)])
    for step in (10, 20):
        assert bool(guard.check(step, {"eval/set/long/mean_recall": 19.0})) == fires
    said = capsys.readouterr().err
    assert said.count("warning") == 2 * fires and said.count("eval.guard watches nothing") == (not fires)


def test_the_report_says_when_a_score_fell_and_how_far():
    name = "forgotten/set/zeroshot/accuracy"
    rows = [{"step": 0} | START, {"step": 10, name: 28.75}, {"step": 20}, {"step": 30, name: 12.5}]
    said, advice = sentences(rows)
    assert said == "set/zeroshot/accuracy fell below its start of 70.00: by 28.75 at step 10, and 12.50 at step 30."
    assert "lrsclip interpolate" in advice
    assert sentences(rows[:1]) == []
