import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from lrsclip_jax import config as configs
from lrsclip_jax import sharding
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.models.clip import init_params
from lrsclip_jax.models.pixels import of_words
from lrsclip_jax.optimizer import create
from lrsclip_jax.parameter_rules import path_of
from lrsclip_jax.step import state_shapes


def mesh(**axes):
    """A mesh of abstract size: rules look at nothing else."""
    return jax.sharding.AbstractMesh((axes.get("data", 1), axes.get("fsdp", 1), axes.get("tensor", 1)), sharding.AXES)


def shapes(name="vitb16"):
    return jax.eval_shape(lambda: init_params(zoo.create(name), jax.random.key(0)))


def specs(params, on, rules=()):
    found = sharding.parameter_shardings(params, on, rules)
    return {path_of(path): tuple(each.spec) for path, each in jax.tree.leaves_with_path(found)}


def test_large_weights_are_split_and_small_ones_whole():
    found = specs(shapes(), mesh(fsdp=16, tensor=2))
    assert found["image/blocks/attention/qkv/kernel"] == (None, "fsdp", None, "tensor", None)
    assert found["text/blocks/attention/out/kernel"] == (None, "tensor", None, "fsdp")
    assert found["image/blocks/mlp/fc1/kernel"] == (None, "fsdp", "tensor")
    assert found["image/blocks/mlp/fc1/bias"] == (None, "tensor")
    assert found["text/token_embedding"] == (None, "fsdp")
    assert found["image/blocks/norm1/scale"] == found["logit_scale"] == found["text/position_embedding"] == ()


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", zoo.names())
def test_nearly_all_of_every_model_is_split(name):
    params = shapes(name)
    found = specs(params, mesh(fsdp=8))
    sizes = {path_of(path): leaf.size for path, leaf in jax.tree.leaves_with_path(params)}
    whole = sum(size for path, size in sizes.items() if "fsdp" not in found[path])
    assert whole < 0.02 * sum(sizes.values())


def test_an_fsdp_that_does_not_divide_leaves_the_weight_whole():
    found = specs(shapes("vits14"), mesh(fsdp=256))  # of width 384
    assert found["image/blocks/mlp/fc1/kernel"] == (None, None, "tensor")


def test_own_rules_go_first():
    rules = ((".*/mlp/fc1/kernel", (None, None, "fsdp")), ("image/projection/kernel", ()))
    found = specs(shapes(), mesh(fsdp=4), rules)
    assert found["text/blocks/mlp/fc1/kernel"] == (None, None, "fsdp")
    assert found["image/projection/kernel"] == () and found["text/projection/kernel"] == ("fsdp", None)


@pytest.mark.parametrize(
    ("rules", "axes", "message"),
    [
        ((("image/nothing", ()),), {}, "mesh.rules: .*image/nothing"),
        ((("logit_scale", ("fsdp",)),), {}, "logit_scale has 0 dimensions, the rule names 1"),
        (
            ((".*/token_embedding", ("rows",)),),
            {},
            "token_embedding: 'rows' is no axis of the mesh, data",
        ),
        (((".*/post_norm/scale", ("fsdp",)),), {"fsdp": 7}, "mesh.fsdp=7 does not divide the 768 of image/post_norm"),
        ((), {"tensor": 5}, r"mesh.tensor=5 does not divide the 12 of image/blocks/attention/out/kernel \[12, 12"),
    ],
)
def test_bad_rules_are_one_clear_line(rules, axes, message):
    with pytest.raises(InputError, match=message) as error:
        sharding.parameter_shardings(shapes(), mesh(**axes), rules)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_the_optimizer_state_is_split_as_its_parameters(name):
    config = configs.load("configs/vitb16.py", [f"optimizer.name={name}", "optimizer.freeze=('image/projection.*',)"])
    params, on = shapes("tiny"), mesh(fsdp=2)
    optimizer = create(config.optimizer, params, total_steps=9, steps_per_epoch=9)
    state = state_shapes(params, optimizer, on)
    split = {path_of(path): tuple(leaf.sharding.spec) for path, leaf in jax.tree.leaves_with_path(state.params)}
    moments = 0
    for path, leaf in jax.tree.leaves_with_path(state.opt_state):
        tail = next((own for own in split if path_of(path).endswith(f"/{own}")), None)
        assert tuple(leaf.sharding.spec) == (split[tail] if tail else ()), path_of(path)
        moments += tail is not None
    assert moments == (len(split) - 1) * {"sgd": 1, "adamw": 2}[name]


@pytest.mark.parametrize("keys", [{"fsdp": 3}, {"data": 2}, {"tensor": 0}, {"fsdp": -1}])
def test_a_mesh_that_does_not_cover_the_devices_is_refused(keys):
    config = configs.defaults().mesh
    config.update(keys)
    with pytest.raises(InputError, match=r"mesh: data=.* × fsdp=.* × tensor=.* does not cover the 1 devices"):
        sharding.make_mesh(config)


def test_what_does_not_divide_is_refused():
    on = mesh(data=4, fsdp=2, tensor=2)
    sharding.check_divides("batch_size", 32, on, microbatches=4)
    with pytest.raises(InputError, match="batch_size is 12: it must be a positive multiple of the 8 parts"):
        sharding.check_divides("batch_size", 12, on)
    with pytest.raises(InputError, match="train.microbatches is 3: it must divide the 4 rows of batch_size=32"):
        sharding.check_divides("batch_size", 32, on, microbatches=3)


def test_without_a_mesh_constraints_do_nothing():
    x = np.ones((2, 3))
    assert sharding.constrain(x, "data") is x
    assert sharding.gathered(x, (None, "tensor")).shape == (2, 3)


@pytest.mark.parametrize("channels", [3, 5])
def test_images_of_bytes_or_bands_are_their_words(channels):
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 6, channels), np.uint8)
    images = images if channels == 3 else images.astype(np.float32)
    parts = sharding.words(images, 2)
    assert parts.dtype == np.uint32 and parts.shape == (2, 2, images[0].nbytes // 4)
    back = [of_words(part, 6, channels, images.dtype) for part in parts]
    np.testing.assert_array_equal(np.concatenate(back), images)


@pytest.mark.slow
@pytest.mark.parametrize("cases", [(0, 3, 8), pytest.param(tuple(range(11)), marks=pytest.mark.exhaustive)])
def test_one_objective_whatever_the_devices(cases):
    """Losses, and parameters after two updates, on meshes with other loss forms, microbatches, remat, packed texts.

    To the bit if all that differs is the memory in which the optimizer's state waits.
    """
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"}
    child = subprocess.run(
        [sys.executable, "-m", "tests.sharding_on_devices", *map(str, cases)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr
    found = json.loads(child.stdout)
    assert max(found["loss"]) < 1e-6
    assert max(found["params"]) < 1e-5
    shares = [(1, 1, 1 / 4, 1 / 4, 1 / 8, 1, 1 / 4, 1 / 4, 1 / 4, 1, 1 / 4)[case] for case in cases]
    assert [layout["kernel"] for layout in found["layouts"]] == shares
    assert [layout["momentum"] for layout in found["layouts"]] == shares
    assert found["same_bits"]
    assert found["rows"] and found["local_rows"] == list(range(8))
    assert found["constrained"] == "P(None, 'tensor')"
