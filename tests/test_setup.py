"""The set-up of a run: checked in one place, and the same for training and for planning."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from lrsclip_jax import config as configs
from lrsclip_jax.data.batches import mixture, pipeline
from lrsclip_jax.data.tokenizer import tokenizer_for
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.plan import ahead
from lrsclip_jax.run.training_data import TrainingData, batches_on_devices
from lrsclip_jax.setup import RunLength, _check_memories, run_length, set_up
from lrsclip_jax.step import initial_state
from lrsclip_jax.weights import initial_parameters

# Sources of 1,000 batches, the epoch that a plan assumes, so that the cosine ends at the same step.
TINY = (
    "model.image.size=32",
    "model.image.layers=1",
    "model.image.patch=16",
    "model.text.layers=1",
    "data.sources=scenes:2000:0",
    "data.long_length=144",
    "data.short_length=24",
    "data.threads=1",
    "batch_size=2",
    "epochs=1.03",
    "eval.batch_size=8",
)


def load(*overrides):
    return configs.load("configs/quickstart.py", [*TINY, *overrides])


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "overrides",
    [
        (),
        (
            "data.packed=True",
            "data.row_length=160",
            "train.microbatches=2",
            "loss.same_text=ignore",
            "loss.same_image=positive",
            "loss.patches=0.1",
        ),
        (
            "loss.name=sigmoid",
            "loss.long_weight=((0, 0.2), (100, 0.8))",
            "loss.form=ring",
            "model.image.patch_dropout=0.5",
        ),
    ],
)
def test_a_plan_compiles_the_very_step_that_trains(overrides):
    config = load(*overrides)
    sources = mixture.open_sources(config)
    setup = set_up(config, run_length(config, sum(len(source) for source, _ in sources)))
    params, preprocessing = initial_parameters(setup.model, config)
    state = initial_state(params, setup.optimizer, setup.shapes)
    data = TrainingData(sources, tokenizer_for(zoo.text_kind(setup.model)), preprocessing)
    report = pipeline.DataReport(0)
    with batches_on_devices(data, config, setup.layout, setup.mesh, report, setup.steps_left(0)) as batches:
        batch = next(batches)
    trained = setup.step(preprocessing).lower(state, batch)

    planned = ahead.plan_step(config, jax.devices(), "cpu")
    if planned.packed:  # one of the shapes that the plan expects
        rows = batch["ids"].shape[0]
        assert rows in planned.packed.shares
        planned = ahead.PlannedStep(planned.setup, planned.setup.batch_specs(rows), planned.packed)
    assert planned.lower().as_text() == trained.as_text()


@pytest.mark.slow
def test_another_config_is_another_step():
    one, other = (
        ahead.plan_step(load(f"loss.label_smoothing={value}"), jax.devices(), "cpu").lower().as_text()
        for value in (0.0, 0.1)
    )
    assert one != other


@pytest.mark.slow
def test_real_parameters_have_the_shapes_that_were_set_up():
    keys = ("optimizer.warmup_steps=0", "optimizer.freeze=('image/.*',)", "model.text.context_length=160")
    config = load("train.offload=optimizer", *keys)
    setup = set_up(config, RunLength(10, 5))
    params, _ = initial_parameters(setup.model, config)
    state = initial_state(params, setup.optimizer, setup.shapes)
    assert jax.tree.structure(state) == jax.tree.structure(setup.shapes)
    for real, shape in zip(jax.tree.leaves(state), jax.tree.leaves(setup.shapes), strict=True):
        assert (real.shape, real.dtype, real.sharding) == (shape.shape, shape.dtype, shape.sharding)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("mesh.fsdp=3", "does not cover the 1 devices"),
        ("batch_size=0", "batch_size=0: expected a whole number from 1"),
        ("train.microbatches=3", "train.microbatches=3 does not divide batch_size=2"),
        ("eval.batch_size=0", "eval.batch_size=0: expected a whole number from 1"),
        ("model.name=tinny", "or 'custom', did you mean 'tiny'"),
        ("data.short_length=300", "data.short_length=300 is more than model.text.context_length=248"),
        ("data.packed=True data.row_length=100", "data.long_length=144 is more than data.row_length=100"),
        ("loss.long_weight=2.0", "loss.long_weight=2.0: expected a number from 0 to 1"),
        ("loss.same_text=ignored", "did you mean 'ignore'"),
        ("optimizer.freeze=image/block/.*", "'image/block/.*' matches no parameter"),
        ("optimizer.warmup_steps=11", "the warm-up of 11 steps is longer than the run of 10"),
        ("mesh.rules=(('nothing',('fsdp',)),)", "mesh.rules: 'nothing' matches no parameter"),
    ],
)
def test_what_can_be_refused_without_weights_and_data_is_one_clear_line(override, message):
    with pytest.raises(InputError, match=message.replace(".*", r"\.\*")) as error:
        set_up(load("optimizer.warmup_steps=0", *override.split()), RunLength(10, 5))
    assert "\n" not in str(error.value)


def test_the_length_of_a_run_follows_from_its_samples():
    assert run_length(load("epochs=2.5", "optimizer.warmup_steps=25"), 21) == RunLength(
        total_steps=26, steps_per_epoch=21 / 2
    )
    with pytest.raises(InputError, match="epochs=1.0 over 1 samples of data.sources with batch_size=2 make no batch"):
        run_length(load("epochs=1.0"), 1)


@pytest.mark.slow
def test_a_run_goes_on_after_the_steps_that_are_done():
    setup = set_up(load("optimizer.warmup_steps=0"), RunLength(10, 5))
    assert setup.steps_left(0) == range(1, 11)
    assert setup.steps_left(4) == range(5, 11)
    assert len(setup.steps_left(10)) == 0 and setup.steps_left(10).start == 11
    with pytest.raises(InputError, match="the newest checkpoint is of step 12, the run ends after 10: raise epochs"):
        setup.steps_left(12)


def test_patches_of_a_frozen_tower_are_refused():
    frozen = load("loss.patches=0.1", "optimizer.warmup_steps=0", "optimizer.freeze=('image/.*',)")
    with pytest.raises(
        InputError, match="loss.patches=0.1 trains the image tower, of which optimizer.freeze="
    ) as error:
        set_up(frozen, RunLength(10, 5))
    assert "\n" not in str(error.value)
    assert set_up(load("loss.patches=0.1", "optimizer.warmup_steps=0"), RunLength(10, 5)).options.loss.views == 2


def test_a_batch_has_the_layout_that_was_set_up():
    config = load("optimizer.warmup_steps=0")
    setup = set_up(config, RunLength(10, 5), devices=jax.devices()[:1])
    data = TrainingData(
        mixture.open_sources(config), tokenizer_for("transformer"), initial_parameters(setup.model, config)[1]
    )
    with batches_on_devices(data, config, setup.layout, setup.mesh, pipeline.DataReport(0), range(3, 5)) as batches:
        made = list(batches)
    assert len(made) == 2
    for batch in made:
        specs = setup.batch_specs()
        assert {key: (array.shape, array.dtype, array.sharding) for key, array in batch.items()} == {
            key: (spec.shape, spec.dtype, spec.sharding) for key, spec in specs.items()
        }
    assert not np.array_equal(made[0]["image"], made[1]["image"])
    assert data.record_ids(config, 3) != data.record_ids(config, 4)


def test_a_device_without_host_memory_is_one_clear_line():
    memories = [SimpleNamespace(kind="device"), SimpleNamespace(kind="unpinned_host")]
    device = SimpleNamespace(device_kind="Metal", addressable_memories=lambda: memories)
    with pytest.raises(InputError, match="and JAX knows of a Metal only device, unpinned_host: set"):
        _check_memories(device)
