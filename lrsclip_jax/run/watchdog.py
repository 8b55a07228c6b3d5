"""The watchdog: ends a process whose steps have stopped ending, and shows where each of its threads stands."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import socket
import sys
import threading
from collections.abc import Iterator


class Watchdog:
    """Ends the process with status 1 when `step` was not called for `minutes` (None or 0: never).

    Use it as a context around the loop; the time runs from its beginning. A line on stderr says what happened, then
    faulthandler prints the stacks of all threads and exits. That needs no interpreter lock, so it also ends a process
    that hangs within native code.
    """

    def __init__(self, minutes: float | None):
        self._seconds = 60 * (minutes or 0)
        self._line: threading.Timer | None = None
        self._last: int | None = None

    def __enter__(self) -> Watchdog:
        self._arm()
        return self

    def __exit__(self, *_: object) -> None:
        self._disarm()

    def step(self, step: int) -> None:
        """Restarts the time: `step` has ended."""
        self._last = step
        self._arm()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """A context whose time does not count: an evaluation may last longer than a step."""
        self._disarm()
        try:
            yield
        finally:
            self._arm()

    def _arm(self) -> None:
        self._disarm()
        if not self._seconds:
            return
        # The line needs the lock, so it gets a second before the stacks; where the lock is held, they come alone.
        faulthandler.dump_traceback_later(self._seconds + 1, exit=True, file=sys.__stderr__ or sys.stderr)
        self._line = threading.Timer(self._seconds, self._say)
        self._line.daemon = True
        self._line.start()

    def _disarm(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        if self._line:
            self._line.cancel()

    def _say(self) -> None:
        since = "the loop began" if self._last is None else f"step {self._last} ended"
        print(
            f"error: {self._seconds / 60:g} minutes since {since} (process {os.getpid()} on {socket.gethostname()}): "
            "ending it; the stacks of its threads follow. A thread in a collective waits for another process, whose "
            "log says more; one that reads waits for the disk. Start the same command again to continue; "
            "train.watchdog_minutes sets the limit.",
            file=sys.__stderr__,
            flush=True,
        )
