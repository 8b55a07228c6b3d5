"""An ordered, bounded map over worker processes that outlives neither its results nor its parent."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from lrsclip_jax.errors import InputError

T, R = TypeVar("T"), TypeVar("R")
_AHEAD = 4  # arguments in flight for each worker


def ordered_map(function: Callable[[T], R], arguments: Iterable[T], workers: int) -> Iterator[tuple[T, R]]:
    """Yields (argument, function(argument)) in the order of the arguments.

    With one worker everything happens in this process. With more, `function` must be importable and its
    arguments and results picklable. Only a few arguments for each worker are drawn ahead, so both sides may
    be endless.
    """
    if workers <= 1:
        for argument in arguments:
            yield argument, function(argument)
        return
    arguments = iter(arguments)
    # Not forked: the parent runs threads (Rust's, the bar's) whose locks a fork would copy as they are.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start)
    try:
        window = deque((a, pool.submit(function, a)) for a in itertools.islice(arguments, _AHEAD * workers))
        while window:
            argument, future = window.popleft()
            result = future.result()
            window.extend((a, pool.submit(function, a)) for a in itertools.islice(arguments, 1))
            yield argument, result
    except BrokenProcessPool:
        raise InputError(
            "a worker process died (out of memory?): the same command with fewer --workers continues"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start() -> None:
    """Leaves interrupts to the parent, and ends with it even when it is killed."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
