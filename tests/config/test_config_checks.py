"""Config values that cannot work together, and the length of a run: said at once, by their keys."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from lrsclip_jax import config as configs
from lrsclip_jax import parameter_rules
from lrsclip_jax.config import facts
from lrsclip_jax.config.keys import KEYS
from lrsclip_jax.errors import InputError
from lrsclip_jax.main import main
from lrsclip_jax.plan.__main__ import main as plan

QUICKSTART = "configs/quickstart.py"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.image.size=65"], "model.image.size=65 is not a multiple of model.image.patch=8 (of model.name=tiny)"),
        (["model.image.heads=3"], "model.image.width=64 (of model.name=tiny) does not divide into model.image.heads=3"),
        (["model.text.width=65"], "model.text.width=65 does not divide into model.text.heads=2 (of model.name=tiny)"),
        (["model.text.embed_dim=32"], "embed_dim=64 (of model.name=tiny) and model.text.embed_dim=32 must be equal"),
        (["model.text.unroll=3"], "model.text.unroll=3 is more than model.text.layers=2"),
        (["model.text.frozen_positions=249"], "frozen_positions=249 is more than model.text.context_length=248"),
        (["model.text.end_token=60000"], "model.text.end_token=60000 is not below model.text.vocab_size=49408"),
        (
            ["model.text.pool=cls"],
            "model.text.pool: a field of model.text.kind='bert' alone, and the kind is 'transformer'",
        ),
        (["model.image.patch_dropout=0.999"], "model.image.patch_dropout=0.999 leaves none of the 64 patches"),
        (["data.long_length=300"], "data.long_length=300 is more than model.text.context_length=248"),
        (["data.short_length=249"], "data.short_length=249 is more than model.text.context_length=248"),
        (["eval.truncations=(20, 500)"], "eval.truncations=500 is more than model.text.context_length=248"),
        (["data.packed=True", "data.row_length=100"], "data.long_length=144 is more than data.row_length=100"),
        (["data.sampling=pairs"], "loss.long_weight=0.8: data.sampling='pairs' has all texts"),
        (["train.microbatches=5"], "train.microbatches=5 does not divide batch_size=128"),
        (["train.offload=optimiser"], "did you mean 'optimizer'"),
        (["train.offload=all"], "train.offload='all' moves images by microbatches: set train.microbatches to more"),
        (
            ["train.offload=optimizer", "optimizer.name=sgd", "optimizer.momentum=0.0"],
            "sgd without momentum keeps no state, set",
        ),
        (
            ["train.offload=optimizer", "optimizer.name=schedule_free", "optimizer.schedule=constant"],
            "train.offload='optimizer': schedule_free needs its state before the gradient, too, set it to 'none'",
        ),
        (["loss.pcm_components=8", "loss.pcm_scope=group:24"], "groups of 24 do not divide batch_size=128"),
        (["loss.preserve=1.0"], "loss.preserve=1.0: a random model has nothing to preserve"),
        (["loss.preserve_teacher=runs/b16"], "loss.preserve_teacher is about loss.preserve, and that is 0"),
        (["loss.patches=0.1", "model.image.resolution=native"], "loss.patches=0.1 cuts crops out of squares"),
        (["loss.patches=0.1", "model.image.patch_dropout=0.5"], "loss.patches=0.1 needs all patches of an image"),
        (["loss.patches=0.1", "data.image_features=sets/a"], "loss.patches=0.1 needs images, and data.image_features"),
        (["loss.patches=0.1", "model.adapt=(('.*','lora',8),)"], "loss.patches=0.1 trains the image tower itself"),
        (
            ["optimizer.name=schedule_free"],
            "optimizer.schedule='cosine': the average of optimizer.name='schedule_free' takes the place",
        ),
        (
            ["eval.at_start=False", "eval.guard=(('eval/a/long/mean_recall',1.0),)"],
            "eval.guard holds scores against those before the first step, and eval.at_start=False leaves these out",
        ),
        (["optimizer.warmup_epochs=1.0"], "optimizer.warmup_steps=30 and optimizer.warmup_epochs=1.0: set one"),
        (
            ["optimizer.warmup_steps=0", "optimizer.warmup_epochs=7"],
            "optimizer.warmup_epochs=7.0 is longer than the run of epochs=6.0",
        ),
        (["data.sources=(('a', 1e-9), ('b', 1e9))"], "data.sources: weights of 1000000000.0 and 1e-09"),
    ],
)
def test_values_that_cannot_work_together_name_their_keys(overrides, message):
    with pytest.raises(InputError) as error:
        configs.load(QUICKSTART, overrides)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.packed=True", "data.packed=True: a SigLIP text fills all its positions and sees its padding"),
        ("data.long_draw.shift=2", "data.long_draw.shift=2: a SigLIP text fills all its positions, set it to 0"),
        ("data.long_draw.drop_first=0.5", "data.long_draw.drop_first: SigLIP's tokenizers do not show where sentences"),
        ("data.short_text=sentences", "data.short_text='sentences': SigLIP's tokenizers do not show where sentences"),
        ("data.augmentation.turns=all", "data.augmentation.turns='all': SigLIP's tokenizers do not show which words"),
        ("data.long_length=77", "data.long_length=77 is more than model.text.context_length=64"),
        ("model.text.pool=cls", "model.text.pool: a field of model.text.kind='bert' alone, and the kind is 'siglip'"),
    ],
)
def test_what_siglips_text_tower_can_not_do_is_said_of_the_config(override, message):
    with pytest.raises(InputError) as error:
        configs.load("siglip", [override])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_values_that_work_together_are_taken():
    for overrides in (
        ["data.packed=True", "data.row_length=32", "loss.long_weight=0", "data.short_length=32"],
        ["data.packed=True", "data.row_length=144", "loss.long_weight=1"],
        ["model.name=tiny_bert", "model.text.pool=cls", "model.image.dtype=bfloat16"],
        ["model.text.kind=bert", "model.text.positions=stretched"],
        ["data.sampling=pairs", "loss.long_weight=1"],
        ["loss.pcm_scope=group:24"],  # no components: no groups
        ["data.sources=(('a', 1.0), ('b', 90000.0))", "train.watchdog_minutes=None", "model.init=None"],
    ):
        configs.load(QUICKSTART, overrides)


def test_the_length_of_a_run_names_all_that_makes_it():
    def steps(samples, *overrides):
        return facts.total_steps(configs.load(QUICKSTART, ["batch_size=8", *overrides]), samples)

    assert steps(100, "epochs=6") == 75
    for samples, overrides, message in (
        (7, ["epochs=1"], "epochs=1.0 over 7 samples of data.sources with batch_size=8 make no batch"),
        (
            16,
            ["epochs=6"],
            "optimizer.warmup_steps=30: the warm-up of 30 steps is longer than the run of 12: epochs=6.0",
        ),
        (100, ["log.profile=(70, 76)"], "log.profile=(70, 76) goes beyond the run: epochs=6.0 over 100 samples"),
        (10**8, ["epochs=1e6"], "make 12500000000000 steps, more than 2147483647: lower epochs"),
        (100, ["model.text.vocab_size=100", "model.text.end_token=99"], "vocab_size=100 is less than the 49408 ids"),
    ):
        with pytest.raises(InputError) as error:
            steps(samples, *overrides)
        assert message in str(error.value) and "\n" not in str(error.value)
    warm = ["optimizer.warmup_steps=0", "optimizer.warmup_epochs=6"]
    assert steps(16, *warm) == 12
    assert steps(19, *warm) == 14


def test_a_slice_is_read_the_same_way_by_the_schema_and_by_the_rules():
    params = {"a": np.zeros((4, 2)), "b": np.zeros(3)}
    for pattern in ("a[0:2]", "a[:]", "a[-2:]", "a"):
        assert not KEYS["optimizer.freeze"].values.fault((pattern,))
        assert parameter_rules.selected((pattern,), params, where="x")["a"].any()


def test_bad_values_are_said_before_jax_is_imported():
    script = (
        "import sys; from lrsclip_jax.main import main; from lrsclip_jax.errors import cli\n"
        "try: cli(lambda: main(sys.argv[1:]))\n"
        "finally: assert 'jax' not in sys.modules and 'flax' not in sys.modules\n"
    )
    for flag, message in (
        ("model.image.heads=0", "model.image.heads=0"),
        ("model.image.heads=7", "model.image.heads=7"),
    ):
        found = subprocess.run(
            [sys.executable, "-c", script, f"--config={QUICKSTART}", "--workdir=never", f"--config.{flag}"],
            capture_output=True,
            text=True,
        )
        assert found.returncode == 2, found.stderr
        (line,) = found.stderr.splitlines()
        assert line.startswith("error: ") and message in line


@pytest.mark.parametrize(
    "override", ["loss.temperature=0", "model.image.size=65", "optimizer.warmup_steps=300", "epochs=0.01"]
)
def test_planning_and_training_say_the_same(override, tmp_path):
    said = []
    for command, extra in ((main, [f"--workdir={tmp_path}"]), (plan, ["--topology=cpu:1"])):
        with pytest.raises(InputError) as error:
            command([f"--config={QUICKSTART}", f"--config.{override}", *extra])
        said.append(str(error.value))
    assert said[0] == said[1] and override.partition("=")[0] in said[0]
