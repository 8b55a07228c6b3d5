import contextlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrsclip_jax.run.compiled import CompiledSteps, describe
from lrsclip_jax.run.startup import Laps


def batch_of(**shapes):
    return {key: np.ones(shape, np.float32) for key, shape in ({"image": (2, 4, 4, 3)} | shapes).items()}


class Aside:
    """Stands for the recorder and the watchdog: notes what is entered and left."""

    def __init__(self):
        self.events = []

    @contextlib.contextmanager
    def aside(self, part):
        self.events.append(f"read, then {part}")
        yield
        self.events.append(f"end of {part}")

    @contextlib.contextmanager
    def paused(self):
        self.events.append("paused")
        yield
        self.events.append("armed")


def test_every_shape_is_compiled_once_with_the_watchdog_paused_and_nothing_under_way(capsys):
    traced, around = [], Aside()

    def step(state, batch):
        traced.append(batch["ids"].shape)
        around.events.append("trace")
        return state + batch["ids"].sum()

    laps = Laps(time.perf_counter())
    compiled = CompiledSteps(jax.jit(step), jax.ShapeDtypeStruct((), jnp.float32), around, around, laps)
    few, many = batch_of(ids=(3, 4)), batch_of(ids=(5, 4))
    assert [compiled.step_for(batch)(jnp.float32(1), batch) for batch in (few, many, few)] == [13, 21, 13]
    assert traced == [(3, 4), (5, 4)]
    assert around.events == ["read, then compile", "paused", "trace", "armed", "end of compile"] * 2
    assert laps.line().startswith("first batch ") and ", trace " in laps.line() and ", compile " in laps.line()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"compiling the step for 2 images of 4 px, texts in {rows} × 4 slots" for rows in (3, 5)]


def test_a_step_that_does_not_compile_leaves_no_trace():
    def step(state, batch):
        raise ValueError("no such step")

    around = Aside()
    compiled = CompiledSteps(jax.jit(step), jnp.float32(0), around, around, Laps(0.0))
    for _ in range(2):
        with pytest.raises(ValueError, match="no such step"):
            compiled.step_for(batch_of(ids=(3, 4)))


def test_shapes_in_words():
    padded = batch_of(image=(128, 64, 64, 3), long=(128, 144), short=(128, 32))
    assert describe(padded) == "128 images of 64 px, texts in 128 × 144 + 128 × 32 slots"
    packed = batch_of(image=(8, 64, 64, 3), ids=(5, 256), segments=(5, 256), long_span=(8, 2))
    assert describe(packed) == "8 images of 64 px, texts in 5 × 256 slots"
