import json

import pytest
from etils import epath

from lrsclip_jax.errors import InputError
from lrsclip_jax.run.nonfinite import Guard, NotFinite, describe

METRICS = {"loss": float("nan"), "gradient_norm": float("-inf"), "learning_rate": 0.5}


def test_the_line_and_the_file_name_step_values_and_records(tmp_path):
    line = describe(epath.Path(tmp_path), 12, METRICS, ["aid: 7", "aid: 3"], writes=True)
    (path,) = tmp_path.iterdir()
    assert line == f"loss is nan and gradient_norm is -inf at step 12, on the records that {path} names"

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(path.read_text(), parse_constant=refuse) == {
        "step": 12,
        "loss": "nan",
        "gradient_norm": "-inf",
        "learning_rate": 0.5,
        "records": ["aid: 7", "aid: 3"],
    }


def test_other_processes_say_the_same_and_write_nothing(tmp_path):
    assert describe(epath.Path(tmp_path), 12, METRICS, [], writes=False).endswith("nonfinite-12.json names")
    assert not any(tmp_path.iterdir())


def test_the_guard_warns_of_skipped_steps_and_stops_at_one_too_many(tmp_path, capsys):
    guard = Guard(epath.Path(tmp_path), lambda step: [f"aid: {step}"], max_skipped=1, writes=True)
    guard.report(12, METRICS, skipped=1)
    warned = capsys.readouterr().err
    assert warned.startswith("warning: loss is nan") and warned.endswith("; skipped, 1 of 1 allowed\n")
    with pytest.raises(NotFinite, match="loss is nan .* at step 15, .* lower optimizer.learning_rate") as error:
        guard.report(15, METRICS, skipped=2)
    assert error.value.step == 15 and isinstance(error.value, InputError) and "\n" not in str(error.value)
    assert json.loads((tmp_path / "nonfinite-15.json").read_text())["records"] == ["aid: 15"]


def test_the_guard_of_another_process_only_stops(tmp_path, capsys):
    guard = Guard(epath.Path(tmp_path), lambda step: [], max_skipped=1, writes=False)
    guard.report(12, METRICS, skipped=1)
    with pytest.raises(NotFinite):
        guard.report(13, METRICS, skipped=2)
    assert not capsys.readouterr().err and not any(tmp_path.iterdir())
