"""Sends one chat completion. Retries transient failures at a steady rate; aborts the run on permanent ones."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx2

from eval.errors import printable
from eval.redaction import redacted, without
from lrsclip_jax.corpus.generators.completion import LARGEST, parse_completion, said_by
from lrsclip_jax.corpus.generators.encoded_images import data_url
from lrsclip_jax.corpus.generators.protocol import Answer, Request, Server
from lrsclip_jax.data.fetching import PASSING, Passing, back_off, retry_after
from lrsclip_jax.errors import InputError

_CONNECT_SECONDS = 10.0
_PATIENCE_SECONDS = 3600.0  # longer waits are no business of a running program
_FAILURES = 20  # in a row, and not fewer than two for each request in flight
_SAID = 200  # characters of what a server says of an error
_TELLING = 6  # characters of a secret, from which on it is no word of a caption (some servers' key is "none")


class Failed(Exception):
    """A request without an answer; the others may have one. Its text is a single line for a person."""


class Caller:
    """A connection to a server. Its coroutines run in one event loop."""

    def __init__(self, server: Server):
        self._server = server
        self._secrets = server.secrets()
        self._pace = Pace(server.per_minute)
        limit = server.timeout_seconds
        address = httpx2.URL(server.base_url)
        self._address = address.copy_with(path=f"{address.path.rstrip('/')}/chat/completions")
        self._client = httpx2.AsyncClient(
            headers={"authorization": f"Bearer {server.key()}"},
            timeout=httpx2.Timeout(limit, connect=min(limit, _CONNECT_SECONDS)),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=server.concurrency),
            follow_redirects=False,  # the key goes nowhere else
        )
        self._reached = False
        self._failures = 0

    async def answer(self, request: Request, attempt: int = 0) -> Answer:
        """Returns the answer of a server to a request, without the server's key should it repeat it.

        Args:
          request: the question; an image is read here.
          attempt: 0, or 1 where an answer was rejected: other settings then.

        Raises:
          Failed: for this request there is none: unreadable image, refused by the server, no chat completion, retries
            used up.
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
                    f"{self._server.shown}: {self._failures} requests in a row failed, the last by: {failure}; "
                    "what was answered is kept, the same command continues"
                ) from None
            raise
        self._failures = 0
        return answer

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def _persistently(self, body: dict[str, Any]) -> Answer:
        sent = 0
        while True:
            await self._pace.turn()
            sent += 1
            last = sent > self._server.retries
            try:
                return await self._once(body, last)
            except Passing as failure:
                reason, wanted = str(failure), failure.wait
            if last:
                raise Failed(f"{reason}; sent {sent} times")
            if wanted > _PATIENCE_SECONDS:
                raise InputError(
                    f"{self._server.shown}: {reason}; it asks to wait {wanted:.0f} seconds: the same command "
                    "continues then"
                )
            self._pace.hold(wanted)
            await asyncio.sleep(max(wanted, back_off(sent, self._server.back_off_seconds)))

    async def _once(self, body: dict[str, Any], last: bool) -> Answer:
        start = time.monotonic()
        try:
            async with asyncio.timeout(self._server.timeout_seconds):  # the client's own starts again with every byte
                async with self._client.stream("POST", self._address, json=body) as response:
                    self._reached = True
                    data = await _received(response)
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            if not self._reached or last:
                raise InputError(
                    f"{self._server.shown}: no server there (can't connect): start it, or correct base_url"
                ) from None
            raise Passing("can't connect") from None
        except (TimeoutError, httpx2.TimeoutException):
            raise Passing(f"no answer within {self._server.timeout_seconds:g} seconds") from None
        except httpx2.TransportError:
            raise Passing("connection lost") from None
        except httpx2.DecodingError:
            raise Failed("its answer is compressed and torn") from None
        if response.status_code != 200:
            self._refuse(response, data)
        if data is None:
            raise Failed(f"its answer has more than {LARGEST:,} bytes")
        try:
            answer = parse_completion(data)
        except InputError as error:
            raise Failed(self._line(f"no chat completion: {error}")) from None
        text = without(answer.text, [secret for secret in self._secrets if len(secret) >= _TELLING])
        return Answer(text, answer.tokens_in, answer.tokens_out, time.monotonic() - start, answer.truncated)

    def _refuse(self, response: httpx2.Response, data: bytes | None) -> None:
        """Raises what an answer of another status than 200 means."""
        where, status = self._server.shown, response.status_code
        said = self._line(said_by(data or b""))[:_SAID]
        if status in (401, 403):  # what the server says of keys may hold ours
            variable = self._server.key_variable
            mend = f"the key in {variable} is wrong or lacks the right" if variable else "it wants a key: key_variable"
            raise InputError(f"{where}: refused with status {status}: {mend}")
        if status == 404:
            raise InputError(f"{where}: no model {self._server.model!r}, or no chat completions there (404: {said})")
        if status in PASSING or status >= 500:
            raise Passing(f"status {status} ({said})", retry_after(response.headers))
        if 300 <= status < 400:
            said = self._line(f"it points to {response.headers.get('location', 'nowhere')}")[:_SAID]
        raise Failed(f"status {status} ({said})")

    def _line(self, text: str) -> str:
        return printable(" ".join(redacted(text, self._secrets).split()))


async def _received(response: httpx2.Response) -> bytes | None:
    """The body, or None where it is larger than any completion."""
    data = bytearray()
    async for part in response.aiter_bytes():
        data += part
        if len(data) > LARGEST:
            return None
    return bytes(data)


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
