"""Batches made ahead of their reader by many threads."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from typing import TypeVar

E = TypeVar("E")
B = TypeVar("B")

_AHEAD = 2  # batches in the making while the reader works with one
# Examples that a thread takes at once. Python's work on one of them is several times slower where decoding an image has
# just taken the processor's caches: reading sixteen before decoding sixteen is 1.4 times as fast as one by one.
_CHUNK = 16


def feed(
    examples: Callable[[range], Sequence[E]],
    batch_size: int,
    assemble: Callable[[int, list[E]], B],
    start: int = 0,
    threads: int = 0,
) -> Iterator[B]:
    """Yields assemble(step, examples of the step) for the steps from `start` on, without end.

    The examples of a step have the positions step · batch_size to (step + 1) · batch_size - 1; `examples` is asked for
    a few successive ones at a time. Both functions run in `threads` threads (0: one a core), all of them on the same
    batch, so that besides the reader's two batches are held, however many threads there are. An exception of either is
    raised to the reader in place of its batch. The threads end when the iterator is closed or has raised.
    """
    threads = threads or os.cpu_count() or 1
    pool = ThreadPoolExecutor(threads, thread_name_prefix="feed")
    ahead: deque[Future[B]] = deque()
    try:
        for step in itertools.count(start):
            ahead.append(_begin(pool, threads, examples, batch_size, assemble, step))
            if len(ahead) > _AHEAD:
                yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _begin(pool, threads, examples, batch_size, assemble, step) -> Future:
    """A batch in the making: every thread takes the next chunk until there is none, the last one assembles."""
    batch: Future = Future()
    made: list = [None] * batch_size
    size = min(_CHUNK, -(-batch_size // threads))
    chunks = iter(range(0, batch_size, size))  # shared: under the GIL its next() is atomic
    working, lock = threads, threading.Lock()

    def work() -> None:
        nonlocal working
        try:
            for first in chunks:
                if batch.done():
                    return
                last = min(first + size, batch_size)
                made[first:last] = examples(range(step * batch_size + first, step * batch_size + last))
            with lock:
                working -= 1
                done = not working
            if done:
                batch.set_result(assemble(step, made))
        except BaseException as error:
            with contextlib.suppress(InvalidStateError):  # an earlier one is told already
                batch.set_exception(error)

    for _ in range(threads):
        pool.submit(work)
    return batch
