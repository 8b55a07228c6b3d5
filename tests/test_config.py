import json
from pathlib import Path

import pytest

from lrsclip_jax import config as configs
from lrsclip_jax.errors import InputError

ARGUMENTS = {"aid_rsicd": ["folder"], "aid_minilm": ["heads:folder", "rsclip:folder", "lrsclip:folder"]}
RECIPES = [
    spec
    for path in sorted(Path("configs").glob("*.py"))
    for spec in ([f"{path}:{argument}" for argument in ARGUMENTS.get(path.stem, ())] or [str(path)])
]


@pytest.mark.parametrize("spec", RECIPES)
def test_every_recipe_loads_and_is_locked(spec):
    config = configs.load(spec)
    with pytest.raises(AttributeError):
        config.not_a_key = 1
    assert set(config.keys()) == set(configs.defaults().keys())


def test_overrides_keep_the_type():
    config = configs.load(
        "configs/vitb16.py",
        [
            "optimizer.learning_rate=1",
            "loss.learn_temperature=false",
            "model.init=random",
            "data.sources=prepared",
            "data.crop_scale=(0.8, 1.0)",
            "loss.long_weight=((0, 0.2), (100, 0.8))",
            "eval.sources=('a', 'b')",
        ],
    )
    assert config.optimizer.learning_rate == 1.0 and isinstance(config.optimizer.learning_rate, float)
    assert config.loss.learn_temperature is False
    assert config.data.sources == ("prepared",)
    assert config.data.crop_scale == (0.8, 1.0)
    assert config.loss.long_weight == ((0, 0.2), (100, 0.8))
    assert config.eval.sources == ("a", "b")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.long_wieght=0.5", "did you mean 'loss.long_weight'"),
        ("loss=0.5", "is a group of keys"),
        ("batch_size=many", "expected a whole number from 1 to 16777216"),
        ("optimizer.learning_rate=True", "expected a number from 0 to 1e.38"),
        ("batch_size", "write --config.batch_size=VALUE"),
    ],
)
def test_bad_overrides_are_one_clear_line(override, message):
    with pytest.raises(InputError, match=message) as error:
        configs.load("configs/vitb16.py", [override])
    assert "\n" not in str(error.value)


def test_rsclips_learning_rate_follows_the_batch_size():
    paper, small = configs.load("configs/rsclip.py"), configs.load("configs/rsclip.py:256")
    assert (paper.batch_size, paper.optimizer.learning_rate) == (1792, 2.734375e-5)
    assert (small.batch_size, small.optimizer.learning_rate) == (256, 3.90625e-6)
    for argument in ("big", "0", "-8"):
        with pytest.raises(InputError, match=f"rsclip.py:{argument}: the argument is the batch size, such as 1792"):
            configs.load(f"configs/rsclip.py:{argument}")


def test_missing_files_and_arguments():
    with pytest.raises(InputError, match="no file"):
        configs.load("configs/vitb61.py")
    with pytest.raises(InputError, match="takes no argument"):
        configs.load("configs/vitb16.py:large")
    with pytest.raises(InputError, match="needs its data, write --config=configs/aid_rsicd.py:DATA"):
        configs.load("configs/aid_rsicd.py")


def test_only_curve_determining_keys_differ():
    saved = json.loads(configs.to_json(configs.load("configs/quickstart.py")))
    same = configs.load("configs/quickstart.py", ["log.every_steps=1", "data.threads=3", "checkpoint.keep=9"])
    assert configs.curve_differences(saved, same) == []
    other = configs.load("configs/quickstart.py", ["seed=1", "optimizer.learning_rate=0.5"])
    assert configs.curve_differences(saved, other) == ["optimizer.learning_rate: 0.001 -> 0.5", "seed: 0 -> 1"]


def test_a_key_that_is_newer_than_a_run_had_its_default_there():
    config = configs.load("configs/quickstart.py")
    saved = json.loads(configs.to_json(config))
    del saved["loss"]["pcm_components"], saved["mesh"]
    assert configs.curve_differences(saved, config) == []
    changed = configs.load("configs/quickstart.py", ["loss.pcm_components=32"])
    assert configs.curve_differences(saved, changed) == ["loss.pcm_components: 0 -> 32"]


def test_the_hash_is_of_what_determines_the_curve():
    config = configs.load("configs/quickstart.py")
    operational = ["mesh.fsdp=2", "train.microbatches=4", "loss.form=ring", "loss.chunk=7", "model.image.remat=full"]
    assert configs.curve_hash(configs.load("configs/quickstart.py", operational)) == configs.curve_hash(config)
    for other in ("loss.gradient=reference", "loss.pcm_components=32", "batch_size=64"):
        assert configs.curve_hash(configs.load("configs/quickstart.py", [other])) != configs.curve_hash(config)


def test_only_keys_of_the_config_follow_a_command():
    assert configs.overrides_of(["--config.seed=1", "--config.a.b=c=d"]) == ["seed=1", "a.b=c=d"]
    with pytest.raises(InputError, match="unknown argument --batch=3: keys of the config are set with --config.KEY"):
        configs.overrides_of(["--config.seed=1", "--batch=3"])
