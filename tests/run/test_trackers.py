"""Trackers: which are wanted, that a missing one is told at once, and that a failing one ends no run."""

import importlib.util
import json
from types import SimpleNamespace

import pytest
from etils import epath

from lrsclip_jax import config as configs
from lrsclip_jax.errors import InputError
from lrsclip_jax.main import main
from lrsclip_jax.run import trackers
from lrsclip_jax.run.metrics import MetricWriter, read_metrics


def config(*overrides):
    return configs.load("configs/quickstart.py", overrides)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), ("tensorboard",)),
        (("log.tensorboard=False",), ()),
        (("log.tensorboard=False", "log.to=tensorboard"), ("tensorboard",)),
        (("log.to=('wandb','tensorboard')",), ("tensorboard", "wandb")),
    ],
)
def test_tensorboard_stays_what_it_was_and_others_are_added(overrides, expected):
    assert trackers.wanted(config(*overrides).log) == expected


@pytest.mark.parametrize("found", [None, SimpleNamespace(origin=None)], ids=["nothing", "a folder of that name"])
def test_a_missing_package_is_one_line_before_the_run(found, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: found if name == "wandb" else find(name, *rest)
    )
    with pytest.raises(InputError, match=r"log.to: wandb is missing, pip install 'lrsclip_jax\[wandb\]'"):
        main(["--config=quickstart", f"--workdir={tmp_path / 'run'}", "--config.log.to=wandb"])
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_fails_is_left_out_and_the_metrics_are_complete(tmp_path, monkeypatch, capsys):
    class Failing:
        def __init__(self, config, run):
            self.written = 0

        def write(self, step, values):
            self.written += 1
            raise ConnectionError("no route\nto host")

        def close(self):
            raise AssertionError("it is left out")

    monkeypatch.setitem(trackers._OPENED, "wandb", Failing)
    run = epath.Path(tmp_path)
    opened = trackers.opened(config("log.to=wandb", "log.tensorboard=False"), run, 0)
    writer = MetricWriter(run, 0, opened)
    for step in (1, 2):
        writer.write(step, {"loss": 1.0})
    writer.close()
    assert [row["step"] for row in read_metrics(run)] == [1, 2]
    assert capsys.readouterr().err == "note: wandb is left out from here on: no route to host\n"


def test_a_tracker_that_cannot_begin_is_one_clear_line(tmp_path, monkeypatch):
    def refused(config, run):
        raise PermissionError("no API key")

    monkeypatch.setitem(trackers._OPENED, "mlflow", refused)
    with pytest.raises(InputError, match="log.to: mlflow can't begin: no API key"):
        trackers.opened(config("log.to=mlflow", "log.tensorboard=False"), epath.Path(tmp_path), 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_a_run_that_continues_is_the_same_run_there(name, tmp_path, monkeypatch):
    pytest.importorskip(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    run, ids = epath.Path(tmp_path), []
    for step in (1, 2):
        (tracker,) = trackers.opened(config(f"log.to={name}", "log.tensorboard=False"), run, step - 1)
        tracker.write(step, {"loss": 1.0 / step, "eval/set:test/long, first 20 tokens/text_to_image/R@1": 5.0})
        tracker.close()
        ids.append(json.loads((tmp_path / trackers.IDS).read_text())[name])
    assert ids[0] == ids[1]
    if name == "mlflow":
        import mlflow

        client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
        assert [(each.step, each.value) for each in client.get_metric_history(ids[0], "loss")] == [(1, 1.0), (2, 0.5)]
        assert client.get_run(ids[0]).data.params["batch_size"] == str(config().batch_size)
