"""States that tests of checkpoints save and restore, whose numbers depend on the step."""

from types import SimpleNamespace

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from lrsclip_jax import config as configs
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.run import checkpoint, checkpoint_reader
from lrsclip_jax.run.workdir import steps
from lrsclip_jax.step import TrainState

PREPROCESSING = Preprocessing(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
TOKENIZER = SimpleNamespace(name="clip", hash="abc")


def keeping(**keys):
    return ConfigDict({"keep": 2, "keep_every_minutes": None, "best": None, "keep_best": 1} | keys)


def about(preprocessing=PREPROCESSING, **overrides):
    config = configs.load("configs/quickstart.py", [f"{key}={value}" for key, value in overrides.items()])
    return checkpoint.metadata(config, preprocessing, TOKENIZER)


def state(step, shape=(48, 8), skipped=0, shardings=None):
    """A state of which every number depends on the step."""
    values = np.random.default_rng(step).standard_normal((2, *shape)).astype(np.float32)
    arrays = TrainState(
        step=np.int32(step),
        params={"image": {"kernel": values[0]}, "logit_scale": np.float32(step)},
        opt_state=[{"momentum": {"image": {"kernel": values[1]}}}, {"count": np.int32(step - skipped)}],
        skipped=np.int32(skipped),
    )
    return jax.device_put(arrays, shardings)


def assert_equal(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def saved(run, *steps, metrics=None, **keys):
    """Saves a state at each of the steps and returns which are there then."""
    checkpoints = checkpoint.open_checkpoints(run, keeping(**keys))
    with checkpoint.closing(checkpoints):
        for step in steps:
            checkpoint.save(checkpoints, state(step), step, about(), metrics and metrics[step])
    return there(run)


def restored(run, like=None, **overrides):
    return checkpoint_reader.restore(
        checkpoint.open_checkpoints(run, keeping()), state(0) if like is None else like, about(**overrides)
    )


def there(run):
    return steps(epath.Path(run))


def data_file(folder):
    return max(
        (file for file in (folder / "params").rglob("*") if file.is_file()), key=lambda file: file.stat().st_size
    )
