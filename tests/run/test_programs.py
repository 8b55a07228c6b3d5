import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrsclip_jax.run.programs import Programs, told
from lrsclip_jax.run.startup import Laps


def batch_of(**shapes):
    return {key: np.ones(shape, np.float32) for key, shape in shapes.items()}


def test_every_shape_is_compiled_once():
    traced = []

    def step(state, batch):
        traced.append(batch["ids"].shape)
        return state + batch["ids"].sum()

    programs = Programs(jax.jit(step), jax.ShapeDtypeStruct((), jnp.float32))
    laps = Laps(time.perf_counter())
    few, many = batch_of(ids=(3, 4)), batch_of(ids=(5, 4))
    with pytest.raises(KeyError):
        programs[few]
    programs.compile(few, laps)
    assert few in programs and many not in programs
    programs.compile(many, laps)
    assert [programs[batch](jnp.float32(1), batch) for batch in (few, many, few)] == [13, 21, 13]
    assert traced == [(3, 4), (5, 4)]
    assert laps.line().startswith("trace ") and ", compile " in laps.line()


def test_shapes_in_words():
    padded = batch_of(image=(128, 64, 64, 3), long=(128, 144), short=(128, 32))
    assert told(padded) == "128 images of 64 px, texts in 128 × 144 + 128 × 32 slots"
    packed = batch_of(image=(8, 64, 64, 3), ids=(5, 256), segments=(5, 256), long_span=(8, 2))
    assert told(packed) == "8 images of 64 px, texts in 5 × 256 slots"
