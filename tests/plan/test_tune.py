"""The search for faster keys: which it tries, which it keeps, and one real step."""

import json

import pytest

from lrsclip_jax.errors import InputError
from lrsclip_jax.plan import tune
from lrsclip_jax.plan.tune import Trial, fastest, tuned

SMALL = ["batch_size=4", "model.image.layers=1", "model.text.layers=2", "data.sources=()"]


def times(seconds):
    """A stand-in for a timed step: seconds by the keys of a trial, None for one that needs too much memory."""

    def timed(recipe, overrides, keys, devices, steps):
        value = seconds(keys)
        return Trial(keys, value, 1 << 30, "" if value else "more memory than a device has")

    return timed


def test_each_key_takes_its_turn_and_the_best_of_one_is_kept_for_the_next(monkeypatch):
    def seconds(keys):
        base = {None: 1.0, "none": None, "full": 0.8}[keys.get("model.image.remat")]
        return base and base / {None: 1, 2: 1.5, 4: 1.1}[keys.get("model.image.unroll")]

    monkeypatch.setattr(tune, "_timed", times(seconds))
    trials = list(tuned("quickstart", [], 1))
    remat = {"model.image.remat": "full", "model.text.remat": "full"}
    assert trials[0].keys == {} and trials[2].keys == remat
    assert all(trial.keys.items() >= remat.items() for trial in trials[2:])
    assert fastest(trials).keys == remat | {"model.image.unroll": 2, "model.text.unroll": 2}


def test_values_that_a_tower_cannot_have_or_has_are_not_tried(monkeypatch):
    monkeypatch.setattr(tune, "_timed", times(lambda keys: 1.0))
    own = [*SMALL, "model.image.remat=full", "model.text.remat=full", "model.image.token_multiple=64"]
    tried = [trial.keys for trial in tuned("quickstart", own, 1)]
    assert not any("model.image.unroll" in keys for keys in tried)  # one tower has one block
    assert [keys["model.image.remat"] for keys in tried if "model.image.remat" in keys] == ["none", "dense"]
    assert [keys["model.image.token_multiple"] for keys in tried if "model.image.token_multiple" in keys] == [1, 128]


def test_noise_displaces_nothing():
    assert fastest([Trial({}, 1.0, 1), Trial({"a": 1}, 0.99, 1)]).keys == {}
    assert fastest([Trial({}, None, 1, "too large"), Trial({"a": 1}, 9.0, 1)]).keys == {"a": 1}


def test_where_nothing_fits_the_batch_is_to_blame(monkeypatch):
    monkeypatch.setattr(tune, "_timed", times(lambda keys: None))
    with pytest.raises(InputError, match=r"no setting runs here: more memory .*; set --config.batch_size to fewer"):
        list(tuned("quickstart", [], 1))


@pytest.mark.exhaustive
def test_real_steps_are_timed_on_this_machine(monkeypatch, capsys):
    monkeypatch.setattr(tune, "TRIALS", ((("model.image.token_multiple",), (1, 64)),))
    flags = [f"--config.{key}" for key in [*SMALL, "data.packed=True", "data.row_length=152"]]
    tune.main(["--config=quickstart", *flags, "--steps=2", "--json"])
    said = json.loads(capsys.readouterr().out)
    own, other = said["trials"]
    assert own["keys"] == {} and other["keys"] == {"model.image.token_multiple": 64}
    assert min(own["seconds"], other["seconds"]) > 0 and min(own["memory"], other["memory"]) > 1 << 20
    assert said["set"] in (own["keys"], other["keys"])


@pytest.mark.exhaustive
def test_more_memory_than_a_device_has_is_no_setting(monkeypatch):
    from lrsclip_jax.plan import ahead

    monkeypatch.setattr(ahead, "memory_of", lambda devices: 1000)
    monkeypatch.setattr(tune, "TRIALS", ())
    with pytest.raises(InputError, match="more memory than a device has"):
        fastest(list(tuned("quickstart", SMALL, 1)))
