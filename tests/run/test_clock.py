import time

import pytest

from lrsclip_jax.run.clock import PARTS, TRAINING, Clock


@pytest.fixture
def passes(monkeypatch):
    """A function by which time passes, in seconds; by itself it stands still."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    return pass_by


def test_what_is_in_no_context_is_the_hosts(passes):
    clock = Clock()
    passes(1)
    for seconds in (2, 4):
        with clock.spent("device"):
            passes(seconds)
    passes(8)
    with pytest.raises(KeyError), clock.spent("evaluation"):
        passes(16)
        raise KeyError
    assert clock.lap() == dict.fromkeys(PARTS, 0.0) | {"host": 9.0, "device": 6.0, "evaluation": 16.0}
    passes(32)
    assert clock.lap() == dict.fromkeys(PARTS, 0.0) | {"host": 32.0}
    assert set(TRAINING) < set(PARTS)
