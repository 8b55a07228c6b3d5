"""When a request may be sent: a steady rate, growing waits after failures, and what servers ask for themselves."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST = 60.0  # seconds between two tries that the server doesn't ask for


class Pace:
    """Turns to send a request, first come, first served: never two closer than the rate allows."""

    def __init__(self, per_minute: float | None):
        self._gap = 60 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._queue = asyncio.Lock()

    async def turn(self) -> None:
        """Waits for the caller's turn."""
        async with self._queue:
            while (wait := self._next - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            self._next = time.monotonic() + self._gap

    def hold(self, seconds: float) -> None:
        """Lets nobody send for so long."""
        self._next = max(self._next, time.monotonic() + seconds)


def back_off(failures: int, first: float) -> float:
    """Returns the seconds to wait after so many failures in a row, from 1: doubling, by a random half shorter."""
    return random.uniform(0.5, 1.0) * min(LONGEST, first * 2.0 ** min(failures - 1, 60))


def retry_after(headers: Mapping[str, str]) -> float:
    """Returns the seconds that a server asks to wait (Retry-After in seconds or as a date), 0 where it doesn't."""
    value = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value).astimezone(UTC) - datetime.now(UTC)).total_seconds())
    except ValueError:
        return 0.0
