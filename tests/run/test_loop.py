"""The order in which the loop asks its owners."""

import time
import weakref
from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from lrsclip_jax.run.loop import Owners, run_steps
from lrsclip_jax.run.nonfinite import NotFinite
from lrsclip_jax.run.startup import Laps


class Everybody:
    """Plays all owners of a run of six steps, and notes what it is asked to do."""

    def __init__(self, *, decides=False, missed=False, broken=None, saves=(4,), evaluates=(3, 6)):
        self.events = []
        self.decides, self.missed_scores, self.broken = decides, missed, broken
        self.saves, self.evaluates = saves, evaluates

    def before(self, step):
        self.events.append(f"step {step}")

    def after(self, step, metrics): ...

    def next_batch(self, batches):
        return next(batches)

    def step_for(self, batch):
        return lambda state, batch: (SimpleNamespace(weights=state.weights + batch), {"loss": jnp.float32(batch)})

    def add(self, step, batch, metrics):
        if self.broken == step:
            raise NotFinite("loss is nan", step - 1)

    def wait_for(self, metrics): ...

    def step(self, step): ...

    def close(self):
        self.events.append("close")

    def missed(self, done):
        return self.missed_scores

    def due_before_save(self, step):
        return self.decides and step in self.evaluates

    def due_after_save(self, step):
        return not self.decides and step in self.evaluates

    def evaluate(self, params, step):
        self.events.append(f"evaluate {params}")
        return {"score": float(params)}

    def due(self, step):
        return step in self.saves

    def save(self, state, step, scores):
        self.events.append(f"save {state.weights} {scores}")

    def save_before(self, state, step):
        self.events.append(f"save before {step}")

    def run(self, first=1, stop_after=None):
        asked = []

        def stop():
            asked.append(None)
            return len(asked) == stop_after

        states = [SimpleNamespace(weights=10 * (first - 1))]
        owners = Owners(*[self] * len(Owners._fields))
        return run_steps(states, iter([10] * 6), range(first, 7), owners, stop, Laps(time.perf_counter()))


def without_steps(everybody):
    return [event for event in everybody.events if not event.startswith("step")]


def test_a_checkpoint_is_saved_before_its_scores(capsys):
    everybody = Everybody(saves=(3, 6))
    assert everybody.run() is None
    assert everybody.events == [
        *("step 1", "step 2", "step 3", "save 30 None", "evaluate 30"),
        *("step 4", "step 5", "step 6", "save 60 None", "evaluate 60", "close"),
    ]
    assert capsys.readouterr().err.startswith("start-up: first step ")


def test_scores_that_decide_come_first_and_always_with_a_checkpoint():
    everybody = Everybody(decides=True)
    everybody.run()
    assert without_steps(everybody) == [
        *("evaluate 30", "save 30 {'score': 30.0}", "save 40 None"),
        *("evaluate 60", "save 60 {'score': 60.0}", "close"),
    ]


@pytest.mark.parametrize("decides", [False, True])
def test_a_run_that_is_stopped_saves_and_leaves(decides):
    everybody = Everybody(decides=decides)
    assert everybody.run(stop_after=3) == 3
    expected = ["evaluate 30", "save 30 {'score': 30.0}"] if decides else ["save 30 None"]
    assert without_steps(everybody) == [*expected, "close"]


def test_the_first_state_is_free_after_the_first_update():
    class State(SimpleNamespace):
        """A state that can be referred to weakly."""

    everybody, states = Everybody(), [State(weights=0)]
    first, alive = weakref.ref(states[0]), []
    everybody.step = lambda step: alive.append(first() is not None)
    run_steps(states, iter([10] * 6), range(1, 7), Owners(*[everybody] * 6), lambda: False, Laps(0.0))
    assert not any(alive) and states == []


def test_missed_scores_come_before_the_first_step():
    everybody = Everybody(missed=True)
    everybody.run(first=4)
    assert everybody.events[:2] == ["evaluate 30", "step 4"]


def test_a_finished_run_is_only_evaluated():
    everybody = Everybody(missed=True)
    assert everybody.run(first=7) is None
    assert everybody.events == ["evaluate 60", "close"]


def test_a_step_that_was_not_finite_ends_the_run_with_the_state_before_it_saved():
    everybody = Everybody(broken=3)
    with pytest.raises(NotFinite):
        everybody.run()
    assert everybody.events == ["step 1", "step 2", "step 3", "save before 2", "close"]
