"""Batches made ahead of their reader by Grain, whose elements are runs of rows.

Grain spends some 50 µs on an element, a twelfth of the time in which a record of 256 px is read and decoded. So an
element is a run of rows of a batch. In threads its images are written where the batch has them; from processes they
come through shared memory and are copied there.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import pickle
import signal
import sys
import traceback
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grain
import numpy as np
from absl import flags

from eval.interrupts import born_deaf
from lrsclip_jax.data.parallel import start_worker
from lrsclip_jax.errors import InputError

R = TypeVar("R")
# Writes the images of the rows at these positions, [n, ...], and returns what else there is of the rows.
Read = Callable[[list[int], np.ndarray], R]

_AHEAD = 2  # batches in the making while the reader works with one
_RUN = 16  # rows of a run
# Runs that a worker process of Grain's holds besides those of its threads: one to be sent, one in the queue between the
# processes, one in the thread that empties this queue, and one that waits for the reader.
_ON_THE_WAY = 4


@dataclass(frozen=True)
class _Runs:
    """The rows of a host cut into runs, which are numbered through all batches.

    Attributes:
      rows: int [b], positions in the global batch.
      batch_size: rows of the global batch.
      parts: of the b rows, one for each run of a batch.
    """

    rows: np.ndarray
    batch_size: int
    parts: list[slice]

    @classmethod
    def cut(cls, rows: np.ndarray, batch_size: int, least: int) -> _Runs:
        """Cuts rows into runs, at least `least` of them where there are as many rows."""
        size = min(_RUN, -(-len(rows) // least))
        return cls(rows, batch_size, [slice(first, first + size) for first in range(0, len(rows), size)])

    def numbers(self, start: int) -> grain.MapDataset[int]:
        """Returns the numbers of the runs from step `start` on."""
        return grain.MapDataset.range(start * len(self.parts), sys.maxsize)

    def place(self, number: int) -> tuple[int, slice]:
        """Returns the step of a run and its part of the batch."""
        step, part = divmod(number, len(self.parts))
        return step, self.parts[part]

    def positions(self, number: int) -> list[int]:
        """Returns the positions of a run's rows from the start of the training run."""
        step, part = self.place(number)
        return (step * self.batch_size + self.rows[part]).tolist()


def feed(
    read: Read[R],
    rows: np.ndarray,
    batch_size: int,
    image: tuple[int, ...],
    *,
    dtype: Any = np.uint8,
    start: int = 0,
    threads: int = 0,
    workers: int = 0,
) -> Generator[tuple[np.ndarray, list[R]]]:
    """Yields for each step, without end, the images of a host's batch and what else `read` returned, run by run.

    All threads and processes work on one batch after the other, so only two batches are held besides the reader's,
    for any number of them. An exception of `read` is raised to the reader in place of its batch. Threads and
    processes end when the iterator is closed or has raised.

    Args:
      read: reads some rows; with `workers` it and what it returns are pickled.
      rows: int [b], positions in the global batch.
      batch_size: rows of the global batch.
      image: shape of one image, or of what stands for it.
      dtype: of the images.
      start: the first step.
      threads: how many read; 0: one a core. With `workers` they are divided among these.
      workers: processes that read, for where one process's Python is the limit; 0: none but this one.

    Raises:
      InputError: a worker process has died.
    """
    threads = threads or os.cpu_count() or 1
    runs = _Runs.cut(rows, batch_size, least=max(threads, 2 * workers))
    take = recycled((len(rows), *image), dtype)
    making: dict[int, np.ndarray] = {}  # the images of each step
    begun = 0 if workers else _AHEAD  # steps whose images are written to before the reader asks for them
    numbers, ahead = runs.numbers(start), _AHEAD * len(runs.parts)
    if workers:
        run = functools.partial(_apart, read, runs, image, dtype)
        elements = _from_processes(numbers.map(run), ahead, threads, workers)
    else:
        run = functools.partial(_in_place, read, runs, making)
        elements = iter(numbers.map(run).to_iter_dataset(grain.ReadOptions(min(threads, ahead), ahead)))

    try:
        making |= {step: take() for step in range(start, start + begun)}
        for step in itertools.count(start):
            making[step + begun] = take()
            # By a function, so that no name here holds the images of a batch while its reader has it.
            yield _batch(elements, runs.parts, making, step)
    except RuntimeError as error:
        if "terminated unexpectedly" not in str(error):  # by Grain
            raise
        raise InputError(
            "a data worker died (out of memory, or of space in /dev/shm?): "
            "the same command with fewer data.workers continues"
        ) from None
    finally:
        elements.close()


def _batch(
    elements: grain.DatasetIterator, parts: Sequence[slice], making: dict[int, np.ndarray], step: int
) -> tuple[np.ndarray, list[Any]]:
    found = []
    for part in parts:
        apart, rest = next(elements)
        if apart is not None:
            making[step][part] = apart
        found.append(rest)
    return making.pop(step), found


def _in_place(read: Read[R], runs: _Runs, making: Mapping[int, np.ndarray], number: int) -> tuple[None, R]:
    step, part = runs.place(number)
    return None, read(runs.positions(number), making[step][part])


def _apart(read: Read[R], runs: _Runs, image: tuple[int, ...], dtype: Any, number: int) -> tuple[np.ndarray, R]:
    positions = runs.positions(number)
    images = np.empty((len(positions), *image), dtype)
    try:
        return images, read(positions, images)
    except Exception as error:
        raise _portable(error) from None


def _portable(error: Exception) -> Exception:
    """The error, or its text where it can't be pickled: Grain's queue would drop it, and the reader wait for ever."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError("".join(traceback.format_exception(error)))
    return error


def _from_processes(made: grain.MapDataset, ahead: int, threads: int, workers: int) -> grain.DatasetIterator:
    """Starts the processes, deaf to the signals of a terminal and of a scheduler: the parent says when they end."""
    if not flags.FLAGS.is_parsed():  # Grain reads flags of absl, which are parsed by programs that absl runs
        flags.FLAGS.mark_as_parsed()
    workers = min(workers, max(ahead // _ON_THE_WAY, 1))
    buffer = max(ahead // workers - _ON_THE_WAY, 0)
    by_threads = made.to_iter_dataset(grain.ReadOptions(min(-(-threads // workers), buffer), buffer))
    options = grain.MultiprocessingOptions(workers, per_worker_buffer_size=1)
    elements = iter(by_threads.mp_prefetch(options, worker_init_fn=lambda worker, workers: start_worker()))
    elements.get_state()  # makes all workers known to close(), not only those that the reader has met
    with born_deaf(signal.SIGINT, signal.SIGTERM):
        elements.start_prefetch()  # in threads, which inherit this one's mask as the processes do theirs
    return elements


def recycled(shape: tuple[int, ...], dtype: Any = np.uint8) -> Callable[[], np.ndarray]:
    """Returns a function that gives arrays of this shape, their contents undefined.

    The kernel clears fresh memory page by page, which for an image takes a twentieth of its decoding. Here the memory
    of an array is used again once neither it nor a view of it is held by anybody.
    """
    free: list[np.ndarray] = []

    def take() -> np.ndarray:
        memory = free.pop() if free else np.empty(math.prod(shape), dtype)
        # Over a memoryview, so that views refer to this array and not, past it, to the memory.
        array = np.frombuffer(memory.data, dtype)
        weakref.finalize(array, free.append, memory).atexit = False
        return array.reshape(shape)

    return take
