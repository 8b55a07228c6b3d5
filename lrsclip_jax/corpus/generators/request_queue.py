"""Many requests to a server at once, their outcomes in order, and none that the journal answers already."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from lrsclip_jax.corpus.generators.answer_checks import tidied
from lrsclip_jax.corpus.generators.journal import Journal, fingerprint
from lrsclip_jax.corpus.generators.protocol import Answer, Check, Outcome, Request, Server
from lrsclip_jax.errors import optional

if TYPE_CHECKING:
    from lrsclip_jax.corpus.generators.client import Caller

ATTEMPTS = 2  # a rejected answer is asked for once more
_AHEAD = 4  # requests drawn and not yet handed out, for each one in flight


def ask(
    requests: Iterable[Request], server: Server, journal: Path, check: Check, total: int | None = None
) -> Iterator[Outcome]:
    """Yields what becomes of each request, in order.

    `server.concurrency` requests are in flight. Four times as many are drawn ahead of the next outcome and no more:
    that bounds the memory, and keeps all in flight while one is slow. An answer is in the journal before another
    request takes its place: whenever the process is killed, the same call asks nothing again that the server has
    answered, but for at most `concurrency` answers that were on their way. `check` judges the journal's answers, too:
    another check costs only what it rejects. Failures aren't in the journal, and the next call asks it again.

    Args:
      requests: questions, each with a key of its own.
      server: who is asked, and how.
      journal: path of the file; it is made where there is none.
      check: judges an answer, tidied (`checks.tidied`). One that it rejects, or that the server cut off, is asked for
        once more with other settings.
      total: number of requests, for the time left in the progress bar.

    Raises:
      InputError: none would have an answer (no server, wrong key, unknown model, too many failures in a row), or the
        journal is damaged or in use. Answers are kept.
    """
    optional("httpx2", "corpus")
    from lrsclip_jax.corpus.generators.client import Caller, Failed  # the client takes a second to import

    caller = Caller(server)
    with Journal(journal) as book, RequestBar(server, total) as progress, _loop(caller) as loop:
        slots = asyncio.Semaphore(server.concurrency)
        end: Future[None] = Future()  # has the first exception, which ends all
        window: deque[Outcome | Future[Outcome]] = deque()

        async def asked(outcome: Outcome, digest: str) -> Outcome:
            async with slots:
                while not _settled(outcome):
                    try:
                        answer = await caller.answer(outcome.request, attempt=len(outcome.answers))
                    except Failed as failure:
                        return replace(outcome, reasons=(*outcome.reasons, str(failure)))
                    outcome = replace(judged(outcome, answer, check), asked=outcome.asked + 1)
                    reason = outcome.reasons[-1] if outcome.text is None else None
                    book.add(outcome.request, digest, server.model, answer, reason)
            return outcome

        def begun(request: Request) -> Outcome | Future[Outcome]:
            digest = fingerprint(request, server)
            outcome = Outcome(request, None)
            for answer in book.answers(digest):
                outcome = outcome if _settled(outcome) else judged(outcome, answer, check)
            if _settled(outcome):
                return outcome
            future = asyncio.run_coroutine_threadsafe(asked(outcome, digest), loop)
            future.add_done_callback(lambda future: _pass_on(future, end))
            return future

        for request in requests:
            window.append(begun(request))
            while window and (len(window) >= _AHEAD * server.concurrency or _ready(window[0])):
                yield progress.shown(_result(window.popleft(), end))
        while window:
            yield progress.shown(_result(window.popleft(), end))


def judged(outcome: Outcome, answer: Answer, check: Check) -> Outcome:
    """Returns the outcome with one more answer: its text where it is accepted, the reason where it isn't."""
    text = tidied(answer.text)
    reason = "truncated" if answer.truncated else check(outcome.request, text)
    answers = (*outcome.answers, answer)
    if reason is None:
        return replace(outcome, text=text, answers=answers)
    return replace(outcome, reasons=(*outcome.reasons, reason), answers=answers)


def _settled(outcome: Outcome) -> bool:
    return outcome.text is not None or len(outcome.answers) >= ATTEMPTS


def _ready(outcome: Outcome | Future[Outcome]) -> bool:
    return isinstance(outcome, Outcome) or outcome.done()


def _result(outcome: Outcome | Future[Outcome], end: Future[None]) -> Outcome:
    if isinstance(outcome, Outcome):
        return outcome
    both: list[Future[Any]] = [outcome, end]
    wait(both, return_when=FIRST_COMPLETED)
    if end.done():
        end.result()
    return outcome.result()


def _pass_on(future: Future[Outcome], end: Future[None]) -> None:
    error = None if future.cancelled() else future.exception()
    if error is not None and not end.done():
        end.set_exception(error)


@contextmanager
def _loop(caller: Caller) -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread, which works on while the caller of `ask` does other things; cancelled at the end."""

    async def finish() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await caller.close()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(finish(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class RequestBar:
    """The bar and what it has counted, as a context manager. Tokens and cost are those of this run."""

    def __init__(self, server: Server, total: int | None):
        self._server = server
        self._counts: Counter[str] = Counter()
        self._bar = tqdm(total=total, desc=server.model, unit=" requests", leave=False, disable=None)

    def shown(self, outcome: Outcome) -> Outcome:
        """Counts an outcome, and returns it."""
        new = outcome.answers[len(outcome.answers) - outcome.asked :]
        self._counts["tokens in"] += sum(answer.tokens_in for answer in new)
        self._counts["tokens out"] += sum(answer.tokens_out for answer in new)
        self._counts["without text"] += outcome.text is None
        self._bar.set_postfix_str(", ".join(self._postfix()), refresh=False)
        self._bar.update()
        return outcome

    def _postfix(self) -> list[str]:
        counted = [f"{tqdm.format_sizeof(count)} {name}" for name, count in self._counts.items() if count]
        cost = self._server.cost(self._counts["tokens in"], self._counts["tokens out"])
        return counted if cost is None else [*counted, f"cost {cost:.2f}"]

    def __enter__(self) -> RequestBar:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self._bar.close()
