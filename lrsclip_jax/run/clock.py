"""Where the time of a run's loop goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

PARTS = ("data_wait", "host", "device", "checkpoint", "evaluation", "compile", "profile")
TRAINING = ("data_wait", "host", "device")  # the others happen beside it


class Clock:
    """Tells apart what the loop spends its time on.

    What happens in a context `spent(part)` belongs to that part, all else to "host": dispatching the steps, and Python.
    The devices work on while the host does; "device" is the time that the host waits for them, so that where they are
    the bottleneck it is nearly all.
    """

    def __init__(self) -> None:
        self._begin()

    @contextlib.contextmanager
    def spent(self, part: str) -> Iterator[None]:
        """A context whose time belongs to `part`, one of PARTS; they do not nest."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[part] += time.perf_counter() - begun

    def lap(self) -> dict[str, float]:
        """Returns the seconds since the last call by part, and begins anew."""
        seconds, since = self._seconds, self._since
        self._begin()
        return seconds | {"host": self._since - since - sum(seconds.values())}

    def _begin(self) -> None:
        self._since = time.perf_counter()
        self._seconds = dict.fromkeys(PARTS, 0.0)
