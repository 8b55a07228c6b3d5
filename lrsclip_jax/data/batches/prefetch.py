"""Batches on the devices before they are needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def ahead(batches: Iterator[A], put: Callable[[A], B], depth: int = 2) -> Generator[B]:
    """Yields put(batch) for each batch in order, computed by a thread that is up to `depth` batches ahead.

    So a batch travels to the devices while they work on another one. An error, of the batch or of `put`, is raised when
    its batch is asked for, not before: all batches in front of it are still had. Closing ends the thread.
    """

    def following() -> tuple[B] | None:
        for batch in batches:
            return (put(batch),)
        return None

    worker = ThreadPoolExecutor(1, "prefetch")
    try:
        pending = deque(worker.submit(following) for _ in range(depth))
        while (ready := pending.popleft().result()) is not None:
            pending.append(worker.submit(following))
            yield ready[0]
    finally:
        worker.shutdown(cancel_futures=True)  # waits: what it reads is closed next
