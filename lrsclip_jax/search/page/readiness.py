"""Whether the model is there yet: it loads in a thread of its own while the page already answers."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable

from lrsclip_jax.errors import InputError
from lrsclip_jax.search.page.sentences import Refusal

log = logging.getLogger("lrsclip.page")
PATIENCE = 60.0  # seconds that a search waits for the model


class Readiness:
    """The state of loading: what is being done, or that all is ready, or why it failed.

    Args:
      steps: what is done in this order, each under the words by which it is told.
      after: what is done when searches are answered already.
    """

    def __init__(self, steps: dict[str, Callable[[], object]], after: Callable[[], object]):
        self._steps, self._after = steps, after
        self._begun = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loading", daemon=True)
        self.doing = next(iter(steps))
        self.failure: str | None = None

    def begin(self) -> None:
        """Starts the thread, once."""
        if self._thread.ident is None:
            self._begun = time.monotonic()
            self._thread.start()

    @property
    def working(self) -> bool:
        """Whether the thread still works."""
        return self._thread.is_alive()

    @property
    def ready(self) -> bool:
        """Whether searches are answered at once."""
        return self._done.is_set() and self.failure is None

    def state(self) -> dict[str, object]:
        """Returns state ("loading", "ready" or "failed"), a sentence, and the seconds so far."""
        seconds = round(time.monotonic() - self._begun, 1)
        if self.failure:
            return {"state": "failed", "sentence": self.failure, "seconds": seconds}
        if self.ready:
            return {"state": "ready", "sentence": "Ready.", "seconds": seconds}
        return {"state": "loading", "sentence": f"{self.doing} …", "seconds": seconds}

    async def wait(self, patience: float = PATIENCE) -> None:
        """Returns when all is ready; Refusal where that fails, or takes longer than `patience` seconds."""
        end = time.monotonic() + patience
        while not self._done.is_set():
            if time.monotonic() > end:
                raise Refusal(503, f"{self.doing}: try again in a minute.")
            await asyncio.sleep(0.1)
        if self.failure:
            raise Refusal(503, self.failure)

    def _run(self) -> None:
        try:
            for name, step in self._steps.items():
                self.doing = name
                step()
        except Exception as error:
            log.error("%s: %s", self.doing, error, exc_info=not isinstance(error, InputError))
            self.failure = "The model can't be loaded; the server's log says why."
            return
        finally:
            self._done.set()
        try:
            self._after()
        except Exception:  # whoever needs it will be told
            log.exception("after loading")
