import json

from etils import epath

from lrsclip_jax.run.nonfinite import tell

METRICS = {"loss": float("nan"), "gradient_norm": float("-inf"), "learning_rate": 0.5}


def test_the_line_and_the_file_name_step_values_and_records(tmp_path):
    line = tell(epath.Path(tmp_path), 12, METRICS, ["aid: 7", "aid: 3"], writes=True)
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
    assert tell(epath.Path(tmp_path), 12, METRICS, [], writes=False).endswith("nonfinite-12.json names")
    assert not any(tmp_path.iterdir())
