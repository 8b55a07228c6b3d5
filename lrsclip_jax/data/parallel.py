"""Work of many threads or processes, taken in order and a bounded number of results ahead."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from eval.interrupts import born_deaf
from lrsclip_jax.errors import InputError

A = TypeVar("A")
R = TypeVar("R")
_AHEAD = 4  # arguments in flight for each worker


def in_threads(function: Callable[[A], R], arguments: Iterable[A]) -> Iterator[R]:
    """Yields function(argument) for each argument, in order, computed by a thread a core a few arguments ahead."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        pending: deque = deque()
        for argument in arguments:
            pending.append(pool.submit(function, argument))
            if len(pending) >= _AHEAD * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def in_processes(function: Callable[[A], R], arguments: Iterable[A], workers: int) -> Generator[tuple[A, R]]:
    """Yields (argument, function(argument)) in the order of the arguments.

    With one worker everything happens in this process. With more, `function` must be importable and its
    arguments and results picklable. Only a few arguments for each worker are drawn ahead, so both sides may
    be endless. The workers end with the iterator, and with this process even when it is killed. Raises InputError
    where one of them dies.
    """
    if workers <= 1:
        for argument in arguments:
            yield argument, function(argument)
        return
    arguments = iter(arguments)
    # Not forked: the parent runs threads (Rust's, the bar's) whose locks a fork would copy as they are.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=start_worker)
    try:
        first = list(itertools.islice(arguments, _AHEAD * workers))
        with born_deaf(signal.SIGINT):  # these start the processes
            window = deque((a, pool.submit(function, a)) for a in first)
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


def start_worker() -> None:
    """Lets a spawned process leave interrupts to its parent, and end with the parent even when that is killed."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
