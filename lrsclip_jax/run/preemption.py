"""SIGTERM, with which a scheduler takes a machine back, and Ctrl-C: the run saves after its next step and leaves."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from eval import interrupts


class Signalled:
    """Whether a signal has come that asks the run to leave, and which; SIGTERM where it came to another process."""

    def __init__(self) -> None:
        self._received = threading.Event()
        self.asked = signal.SIGTERM

    def __call__(self) -> bool:
        return self._received.is_set()

    def hear(self, asked: signal.Signals) -> None:
        """Notes that a signal has come; the first one counts."""
        if not self():
            self.asked = asked
            self._received.set()


@contextlib.contextmanager
def watch() -> Iterator[Signalled]:
    """A context in which SIGTERM and the first Ctrl-C do not end the process; it yields what tells that one has come.

    A second Ctrl-C ends the process at once. Enter it in the main thread. Afterwards the signals have their earlier
    meaning again.
    """
    signalled = Signalled()

    def interrupted() -> None:
        print("Ctrl-C: the run saves after this step and ends; once more ends it at once", file=sys.stderr, flush=True)
        signalled.hear(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, lambda *_: signalled.hear(signal.SIGTERM))
    try:
        with interrupts.put_off(interrupted):
            yield signalled
    finally:
        signal.signal(signal.SIGTERM, before)


def any_process(flag: Callable[[], bool]) -> Callable[[], bool]:
    """Returns a function that tells whether `flag()` holds on any process, with the same answer on all of them.

    Every process calls it once after every step. With one process it is `flag` itself. With several, the flags travel
    as one more reduction over the devices, queued behind the step. The next call reads its result, when the next step
    is queued already, so that no device waits for a host. The answer is then one step old.

    JAX's own agreement on a signal (`multihost_utils.reached_preemption_sync_point`) settles on the step after the
    highest step that any process has named so far. A continued run with a signal before its first step would miss it,
    because no step has been named yet. A run that saves may miss it, too, because Orbax names the steps of its saves
    late, from another thread.
    """
    if jax.process_count() == 1:
        return flag
    mesh = jax.make_mesh((jax.device_count(),), ("device",), axis_types=(AxisType.Auto,))
    each, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("device",), ()))
    reduce = jax.jit(jnp.any, out_shardings=whole)
    pending: list[jax.Array] = []

    def agreed() -> bool:
        flags = np.full(jax.local_device_count(), flag())
        pending.append(reduce(jax.make_array_from_process_local_data(each, flags)))
        return len(pending) > 1 and bool(pending.pop(0))

    return agreed
