"""SIGTERM, with which a scheduler takes a machine back: the run saves after its next step and leaves."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec


@contextlib.contextmanager
def watch() -> Iterator[Callable[[], bool]]:
    """A context in which SIGTERM does not end the process; it yields a function that tells whether the signal has come.

    Enter it in the main thread. Afterwards SIGTERM has its earlier meaning again.
    """
    received = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: received.set())
    try:
        yield received.is_set
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
