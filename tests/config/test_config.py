import functools
import hashlib
import json
import operator
import shutil
from pathlib import Path

import numpy as np
import pytest

from lrsclip_jax import config as configs
from lrsclip_jax.config import recipes
from lrsclip_jax.config.keys import KEYS
from lrsclip_jax.corpus.recipe_config import RECIPES as CORPUS_RECIPES
from lrsclip_jax.errors import InputError

ARGUMENTS = {
    "aid_rsicd": ["folder"],
    "aid_mosaics": ["words:folder", "long:folder"],
    "aid_minilm": ["heads:folder", "rsclip:folder", "lrsclip:folder"],
    "ret2": ["folder", "ret3:folder"],
    "lora_24gb": ["b16", "l14"],
    "siglip": ["siglip_so400m14", "siglip2_vitb32"],
    "rsclip_baselines": ["pfeiffer", "prefix", "lora", "unipelt"],
}
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


@pytest.mark.parametrize(
    ("name", "curve", "everything"),
    [  # of the files as they stood when each named every value, before there was data.workers
        ("vitb16", "ed4318932eeb", "7529fd42d947dea5b28adb235006e925b1d2d53196bb330fffafb5dec5d08681"),
        ("vitb32", "34ec1d6d8799", "4429df2122c3fdbad14972c23beebfd516584199142b099fb56769f8045468cd"),
        ("vitl14", "a6b1e45ecd70", "479090ff5d8e4649447a66b7119a590bb2a3a7ad94adfad1ebfb5e804618108a"),
    ],
)
def test_a_recipe_that_starts_from_another_has_all_its_values(name, curve, everything):
    config = configs.load(f"configs/{name}.py")
    assert configs.curve_hash(config) == curve
    values = json.loads(configs.to_json(config))
    for key in ("data.workers", "eval.at_start", "eval.guard", "train.ema", "train.offload", "log.to", *configs.LATER):
        *groups, last = key.split(".")
        default = json.loads(json.dumps(KEYS[key].default))
        assert functools.reduce(operator.getitem, groups, values).pop(last) == default
    values["data"] = {name: value for name, value in values["data"].items() if value != {}}
    assert hashlib.sha256(f"{json.dumps(values, indent=2)}\n".encode()).hexdigest() == everything


def test_georsclips_fine_tune_has_its_authors_values():
    config = configs.load("ret2:DATA")
    optimizer = config.optimizer
    assert (optimizer.learning_rate, optimizer.weight_decay, optimizer.clip_norm) == (5e-6, 0.5, 50.0)
    assert (config.batch_size, config.epochs, optimizer.warmup_steps) == (600, 7.0, 100)
    assert config.eval.sources == ("DATA/rsicd:test", "DATA/rsitmd:test")
    assert configs.load("ret2:ret3:DATA").eval.sources[2:] == ("DATA/ucm:test",)


def test_the_curriculum_of_dgtrs_is_the_only_difference_of_its_recipe():
    """Long texts alone for a fifth of the run, then half a cosine down to 0.2, met to 0.01 by straight lines."""
    config, base = configs.load("dgtrs"), configs.load("vitb16")
    assert [line.split(":")[0] for line in configs.curve_differences(base.to_dict(), config)] == ["loss.long_weight"]
    assert configs.load("dgtrs:vitl14").model.name == "vitl14"
    share = np.linspace(0, 1, 1001)
    fall = (1 + np.cos(np.pi * np.clip((share - 0.2) / 0.6, 0, 1))) / 2
    drawn = np.interp(share, *zip(*config.loss.long_weight, strict=True))
    np.testing.assert_allclose(drawn, 0.2 + 0.8 * fall, atol=0.01)


def test_the_recipe_of_debias_changes_the_short_text_alone():
    for spec, base in (("debias", "vitb16"), ("debias:vitl14", "vitl14")):
        lines = configs.curve_differences(configs.load(base).to_dict(), configs.load(spec))
        keys = ["consecutive", "drop_first", "sample", "shift"]
        expected = [*(f"data.short_draw.{key}" for key in keys), "data.short_text", "loss.long_weight"]
        assert [line.split(":")[0] for line in lines] == expected


def test_lrsclip_plus_changes_how_texts_are_drawn_and_weighed_and_what_turns():
    for spec, base in (("lrsclip_plus", "vitb16"), ("lrsclip_plus:aid_mosaics:long:D", "aid_mosaics:long:D")):
        lines = configs.curve_differences(configs.load(base).to_dict(), configs.load(spec))
        long, short = ("drop_first", "sample", "share", "shuffle"), ("sample", "share")
        expected = ["data.augmentation.turns", *(f"data.long_draw.{key}" for key in long)]
        expected += [*(f"data.short_draw.{key}" for key in short), "data.short_text", "loss.long_weight", "loss.rising"]
        assert [line.split(":")[0] for line in lines if "short_length" not in line] == expected
        assert configs.load(spec).data.short_length == max(configs.load(base).data.short_length, 96)


def test_recipes_are_found_by_name_from_any_folder(tmp_path, monkeypatch):
    here = configs.load("configs/vitl14.py")
    monkeypatch.chdir(tmp_path)
    assert configs.to_json(configs.load("vitl14")) == configs.to_json(here)
    assert configs.load("rsclip:256").batch_size == 256
    assert configs.load("aid_minilm:heads:D:X").data.sources == ("D:X/aid:train",)
    Path("configs").mkdir()
    shutil.copy(recipes.shipped()[1] / "quickstart.py", "configs/vitl14.py")
    assert configs.load("vitl14").model.name == "tiny"  # of a checkout that one stands in
    shutil.copy(recipes.shipped()[1] / "vitb32.py", "vitl14.py")
    assert configs.load("vitl14").model.name == configs.load("./vitl14").model.name == "vitb32"


def test_a_wheel_has_its_recipes_inside_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "__file__", str(tmp_path / "lrsclip_jax/config/recipes.py"))
    assert recipes.shipped()[1] == tmp_path / "configs"  # a checkout
    (tmp_path / "lrsclip_jax/recipes").mkdir(parents=True)
    assert recipes.shipped()[1] == tmp_path / "lrsclip_jax/recipes"


def test_a_recipe_that_others_start_from_may_be_changed_and_is_made_each_time():
    config = configs.recipe("vitb16")
    config.model.name = "vitb32"
    assert configs.recipe("vitb16").model.name == "vitb16"
    with pytest.raises(AttributeError):
        config.not_a_key = 1


def test_recipes_of_corpora_are_found_by_name_among_their_own():
    (row,) = configs.load("boxes:a/trees.csv", folder=CORPUS_RECIPES).subsets
    assert row["name"] == "trees"
    with pytest.raises(InputError, match="^boxs:a.csv: no recipe boxs, did you mean 'boxes'"):
        configs.load("boxs:a.csv", folder=CORPUS_RECIPES, option="")
    with pytest.raises(InputError, match="no recipe vitb16"):
        configs.load("vitb16", folder=CORPUS_RECIPES)


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
    with pytest.raises(InputError, match="^--config=configs/vitb61.py: no file configs/vitb61.py$"):
        configs.load("configs/vitb61.py")
    with pytest.raises(InputError, match="^--config=vitb61: no recipe vitb61, did you mean 'vitb16'. .*quickstart, "):
        configs.load("vitb61")
    with pytest.raises(InputError, match="takes no argument"):
        configs.load("configs/vitb16.py:large")
    with pytest.raises(InputError, match="needs its data, write configs/aid_rsicd.py:DATA"):
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
