"""Work of many threads, taken in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
R = TypeVar("R")


def in_order(function: Callable[[A], R], arguments: Iterable[A]) -> Iterator[R]:
    """Yields function(argument) for each argument, in order, computed by a thread a core a few arguments ahead."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        pending: deque = deque()
        for argument in arguments:
            pending.append(pool.submit(function, argument))
            if len(pending) >= 4 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
