"""Sends one chat completion. Retries transient failures at a steady rate; aborts the run on permanent ones."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import openai

from lrsclip_jax.corpus.generators.encoded_images import data_url
from lrsclip_jax.corpus.generators.protocol import Answer, Request, Server
from lrsclip_jax.errors import InputError

_PASSING = (408, 409, 429)  # and all from 500
_CONNECT_SECONDS = 10.0
_PATIENCE_SECONDS = 3600.0  # longer waits are no business of a running program
_FAILURES = 20  # in a row, and not fewer than two for each request in flight
LONGEST = 60.0  # seconds between two tries that the server doesn't ask for


class Failed(Exception):
    """A request without an answer; the others may have one. Its text is a single line for a person."""


class Caller:
    """A connection to a server. Its coroutines run in one event loop."""

    def __init__(self, server: Server):
        self._server = server
        self._pace = Pace(server.per_minute)
        limit = server.timeout_seconds
        self._client = openai.AsyncOpenAI(
            base_url=server.base_url,
            api_key=server.key(),
            max_retries=0,  # its own don't know our rate
            timeout=openai.Timeout(limit, connect=min(limit, _CONNECT_SECONDS)),
        )
        self._reached = False
        self._failures = 0

    async def answer(self, request: Request, attempt: int = 0) -> Answer:
        """Returns the answer of a server to a request.

        Args:
          request: the question; an image is read here.
          attempt: 0, or 1 where an answer was rejected: other settings then.

        Raises:
          Failed: for this request there is none: unreadable image, refused by the server, retries used up.
          InputError: for no request will there be one: no server, wrong key, unknown model, too many failures in a
            row.
        """
        try:
            messages = await asyncio.to_thread(_messages, request, self._server)
        except InputError as error:
            raise Failed(f"image: {error}") from None
        try:
            answer = await self._persistently({"messages": messages, **self._server.settings(attempt)})
        except Failed as failure:
            self._failures += 1
            if self._failures >= max(_FAILURES, 2 * self._server.concurrency):
                raise InputError(
                    f"{self._server.base_url}: {self._failures} requests in a row failed, the last by: {failure}; "
                    "what was answered is kept, the same command continues"
                ) from None
            raise
        self._failures = 0
        return answer

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    async def _persistently(self, body: dict[str, Any]) -> Answer:
        sent = 0
        while True:
            await self._pace.turn()
            sent += 1
            try:
                return await self._once(body)
            except (TimeoutError, openai.APIConnectionError, openai.APIStatusError) as error:
                last = sent > self._server.retries
                reason = self._reason(error, last)
                wanted = retry_after(error.response.headers) if isinstance(error, openai.APIStatusError) else 0.0
            if last:
                raise Failed(f"{reason}; sent {sent} times")
            if wanted > _PATIENCE_SECONDS:
                raise InputError(
                    f"{self._server.base_url}: {reason}; it asks to wait {wanted:.0f} seconds: the same command "
                    "continues then"
                )
            self._pace.hold(wanted)
            await asyncio.sleep(max(wanted, back_off(sent, self._server.back_off_seconds)))

    async def _once(self, body: dict[str, Any]) -> Answer:
        start = time.monotonic()
        async with asyncio.timeout(self._server.timeout_seconds):  # the client's own starts again with every byte
            completion = await self._client.chat.completions.create(**body)
        self._reached = True
        try:
            choice = completion.choices[0]
            text = choice.message.content or ""
        except (AttributeError, IndexError, TypeError):
            raise Failed("no chat completion: is the end of base_url right (often /v1)?") from None
        usage = completion.usage
        return Answer(
            text=text,
            tokens_in=usage.prompt_tokens if usage else 0,
            tokens_out=usage.completion_tokens if usage else 0,
            seconds=time.monotonic() - start,
            truncated=choice.finish_reason == "length",
        )

    def _reason(self, error: Exception, last: bool) -> str:
        """Why a request failed in a way that may pass; raises what won't."""
        where = self._server.base_url
        if isinstance(error, openai.APIStatusError):
            self._reached = True
            return self._status_reason(error)
        # httpx or httpx2, by the version of the client: their names are the same.
        if type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout"):
            if not self._reached or last:
                raise InputError(f"{where}: no server there (can't connect): start it, or correct base_url") from None
            return "can't connect"
        if isinstance(error, TimeoutError | openai.APITimeoutError):
            return f"no answer within {self._server.timeout_seconds:g} seconds"
        return "connection lost"

    def _status_reason(self, error: openai.APIStatusError) -> str:
        where, status = self._server.base_url, error.status_code
        said = self._said(error)
        if status in (401, 403):  # what the server says of keys may hold ours
            variable = self._server.key_variable
            mend = f"the key in {variable} is wrong or lacks the right" if variable else "it wants a key: key_variable"
            raise InputError(f"{where}: refused with status {status}: {mend}")
        if status == 404:
            raise InputError(f"{where}: no model {self._server.model!r}, or no chat completions there (404: {said})")
        if status in _PASSING or status >= 500:
            return f"status {status} ({said})"
        raise Failed(f"status {status} ({said})")

    def _said(self, error: openai.APIStatusError) -> str:
        body = error.body if isinstance(error.body, dict) else {}
        message = body.get("message") or error.message
        return " ".join(str(message).replace(self._client.api_key, "…").split())[:200]


def _messages(request: Request, server: Server) -> list[dict[str, Any]]:
    content: str | list[dict[str, Any]] = request.prompt
    if request.image is not None:
        image = {"type": "image_url", "image_url": {"url": data_url(request.image, server.fit)}}
        content = [image, {"type": "text", "text": request.prompt}]
    system = [{"role": "system", "content": request.system}] if request.system else []
    return [*system, {"role": "user", "content": content}]


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
    """Returns the seconds to wait after `failures` in a row, from 1: doubled each time, less up to half at random."""
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
