"""Arrays in memory that earlier ones have left."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable

import numpy as np


def recycled(shape: tuple[int, ...], dtype: type) -> Callable[[], np.ndarray]:
    """Returns a function that gives arrays of this shape, their contents undefined.

    The kernel clears fresh memory page by page, which for a batch of images takes as long as some of them take to
    decode. Here the memory of an array is used again once neither it nor a view of it is held by anybody.
    """
    free: list[np.ndarray] = []

    def take() -> np.ndarray:
        memory = free.pop() if free else np.empty(math.prod(shape), dtype)
        # Over a memoryview, so that views refer to this array and not, past it, to the memory.
        array = np.frombuffer(memoryview(memory), dtype)
        weakref.finalize(array, free.append, memory).atexit = False
        return array.reshape(shape)

    return take
