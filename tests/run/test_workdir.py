import pytest

from lrsclip_jax import config as configs
from lrsclip_jax.errors import InputError
from lrsclip_jax.run import workdir


def config(*overrides):
    return configs.load("configs/quickstart.py", overrides)


def checkpoint(folder, step):
    path = folder / "checkpoints" / str(step)
    path.mkdir(parents=True)
    (path / "params").write_text(f"parameters of step {step}")


def test_a_run_that_saved_nothing_may_be_started_anew_with_another_config(tmp_path):
    workdir.claim(str(tmp_path), config())
    workdir.claim(str(tmp_path), config("seed=1"))
    assert workdir.read_config(tmp_path)["seed"] == 1


def test_checkpoints_belong_to_their_config(tmp_path):
    workdir.claim(str(tmp_path), config())
    checkpoint(tmp_path, 60)
    workdir.claim(str(tmp_path), config("log.every_steps=3"))
    with pytest.raises(InputError, match="seed: 0 -> 1.*--branch=NEWDIR"):
        workdir.claim(str(tmp_path), config("seed=1"))
    assert workdir.read_config(tmp_path)["seed"] == 0


def test_a_finished_run_may_continue_for_more_epochs_and_no_other(tmp_path):
    samples = config().batch_size * 10
    workdir.claim(str(tmp_path), config("epochs=6.0"))
    checkpoint(tmp_path, 50)
    for change in ("epochs=12.0", "epochs=3.0"):  # it is not finished
        with pytest.raises(InputError, match="epochs: 6.0 -> .*--branch=NEWDIR"):
            workdir.claim(str(tmp_path), config(change), samples)
    checkpoint(tmp_path, 60)
    assert workdir.finished_shorter(tmp_path, config("epochs=12.0"), samples) == 60
    for others in (["epochs=3.0"], ["epochs=12.0", "seed=1"]):
        assert workdir.finished_shorter(tmp_path, config(*others), samples) is None
        with pytest.raises(InputError, match="epochs: 6.0 -> "):
            workdir.claim(str(tmp_path), config(*others), samples)
    workdir.claim(str(tmp_path), config("epochs=12.0"), samples)
    assert workdir.read_config(tmp_path)["epochs"] == 12.0


def test_a_branch_takes_the_newest_checkpoint_and_the_metrics(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    workdir.claim(str(old), config())
    for step in (60, 120):
        checkpoint(old, step)
    (old / "metrics.jsonl").write_text('{"step": 1}\n')
    for _ in range(2):  # begun again, a branch goes on as any run
        assert workdir.branch(str(old), str(new), config("seed=1")) == new
    assert workdir.steps(new) == [120] and workdir.steps(old) == [60, 120]
    assert (new / "metrics.jsonl").read_text() == '{"step": 1}\n'
    assert workdir.read_config(new)["seed"] == 1
    with pytest.raises(InputError, match="has no checkpoint to branch from"):
        workdir.branch(str(tmp_path / "nowhere"), str(tmp_path / "other"), config())


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't write to --workdir=.*file/run"):
        workdir.claim(str(tmp_path / "file" / "run"), config())


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "notes.txt"])
def test_a_folder_of_others_is_never_written_into(tmp_path, name):
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / name).write_text('{"model_type": "clip"}')
    workdir.claim(str(tmp_path / "run"), config())
    checkpoint(tmp_path / "run", 60)
    for attempt in (
        lambda: workdir.check_out(str(tmp_path / "others")),
        lambda: workdir.claim(str(tmp_path / "others"), config()),
        lambda: workdir.branch(str(tmp_path / "run"), str(tmp_path / "others"), config("seed=1")),
    ):
        with pytest.raises(InputError, match="is no run's|holds other files"):
            attempt()
    assert (tmp_path / "others" / name).read_text() == '{"model_type": "clip"}'
    assert [path.name for path in (tmp_path / "others").iterdir()] == [name]


def test_addresses_other_than_gs_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for address in ("s3://bucket/run", "ftp://host/run"):
        with pytest.raises(InputError, match="a local or mounted folder is expected"):
            workdir.check_out(address)
    assert not any(tmp_path.iterdir())
