"""Batches made ahead of their reader by many threads."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from typing import TypeVar

B = TypeVar("B")

_AHEAD = 2  # batches in the making while the reader works with one
_CHUNK = 16  # rows that a thread takes at once


def feed(
    begin: Callable[[int], tuple[Callable[[range], None], Callable[[], B]]],
    batch_size: int,
    start: int = 0,
    threads: int = 0,
) -> Iterator[B]:
    """Yields the batches of the steps from `start` on, without end.

    `begin(step)` gives two functions: `fill(rows)` makes some of the batch's `batch_size` rows, `finish()` returns it
    once all are made. Both run in `threads` threads (0: one a core), all of them on the same batch, so that besides the
    reader's two batches are held, however many threads there are. An exception of either is raised to the reader in
    place of its batch. The threads end when the iterator is closed or has raised.
    """
    threads = threads or os.cpu_count() or 1
    pool = ThreadPoolExecutor(threads, thread_name_prefix="feed")
    ahead: deque[Future[B]] = deque()
    # The many small objects of records make Python look for cycles in all that the program holds, again and again.
    gc.freeze()
    try:
        for step in itertools.count(start):
            ahead.append(_begun(pool, threads, *begin(step), batch_size))
            if len(ahead) > _AHEAD:
                yield ahead.popleft().result()
    finally:
        gc.unfreeze()
        pool.shutdown(wait=False, cancel_futures=True)


def _begun(pool, threads, fill, finish, batch_size) -> Future:
    """A batch in the making: every thread takes the next chunk until there is none, the last one finishes it."""
    batch: Future = Future()
    size = min(_CHUNK, -(-batch_size // threads))
    chunks = iter(range(0, batch_size, size))  # shared: under the GIL its next() is atomic
    working, lock = threads, threading.Lock()

    def work() -> None:
        nonlocal working
        try:
            for first in chunks:
                if batch.done():
                    return
                fill(range(first, min(first + size, batch_size)))
            with lock:
                working -= 1
                done = not working
            if done:
                batch.set_result(finish())
        except BaseException as error:
            with contextlib.suppress(InvalidStateError):  # an earlier one is told already
                batch.set_exception(error)

    for _ in range(threads):
        pool.submit(work)
    return batch
