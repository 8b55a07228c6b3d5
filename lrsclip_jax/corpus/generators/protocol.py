"""The protocol with an OpenAI-compatible server: its settings, requests, answers, and outcomes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from eval.redaction import redacted, secrets_of
from lrsclip_jax.corpus.generators.encoded_images import Fit
from lrsclip_jax.errors import InputError

# The kinds of number that a setting may be, its least and its greatest value.
_TINY = 1e-9
_BOUNDS: dict[str, tuple[tuple[type, ...], float, float]] = {
    "concurrency": ((int,), 1, 10_000),
    "per_minute": ((int, float), _TINY, 1e9),
    "timeout_seconds": ((int, float), _TINY, 1e6),
    "retries": ((int,), 0, 1_000_000),
    "back_off_seconds": ((int, float), 0, 1e6),
    "max_tokens": ((int,), 1, 10**9),
    "temperature": ((int, float), 0, 100),
    "seed": ((int,), -(2**63), 2**63 - 2),  # 64 bits on servers, and the next one is asked for, too
    "price_in": ((int, float), 0, 1e12),
    "price_out": ((int, float), 0, 1e12),
}
_MAY_BE_NONE = ("per_minute", "price_in", "price_out")


def _range(least: float, most: float) -> str:
    return f"more than 0 and at most {most:g}" if least == _TINY else f"at least {least:g} and at most {most:g}"


@dataclass(frozen=True)
class Server:
    """A server that speaks OpenAI's chat completions (vLLM, SGLang, llama.cpp, Ollama, a hosted one), and its limits.

    Attributes:
      base_url: such as "http://localhost:8000/v1".
      model: the name that the server knows it by.
      key_variable: the environment variable that holds the key; None for a server without keys. The key itself is
        neither kept nor printed.
      concurrency: requests in flight.
      per_minute: requests sent in a minute at most, evenly spaced; None for no limit.
      timeout_seconds: for a whole answer.
      retries: how often a request is sent again after a time-out, a lost connection, or status 408, 409, 429 or 5xx.
      back_off_seconds: the first wait before that, doubled each time up to a minute, by a random half shorter; longer
        where the server asks for it (Retry-After).
      max_tokens, temperature, seed: of an answer; asked again, the seed is the next and the temperature 0.4 higher.
      fit: how large images are sent.
      price_in, price_out: of a million tokens in any currency; None where nothing is counted.
    """

    base_url: str
    model: str
    key_variable: str | None = None
    concurrency: int = 16
    per_minute: float | None = None
    timeout_seconds: float = 120.0
    retries: int = 5
    back_off_seconds: float = 1.0
    max_tokens: int = 512
    temperature: float = 0.2
    seed: int = 0
    fit: Fit = Fit()
    price_in: float | None = None
    price_out: float | None = None

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.base_url)
            complete = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except (ValueError, TypeError, AttributeError):
            complete = False
        if not complete or not self.base_url.isprintable() or " " in self.base_url:
            shown = redacted(repr(self.base_url)[:100])
            raise InputError(f"base_url {shown}: expected an address such as http://localhost:8000/v1")
        if not isinstance(self.model, str) or not self.model.strip():
            raise InputError(
                f"{self.shown}: model is {self.model!r:.40}, expected the name that the server knows it by"
            )
        if self.key_variable is not None and not re.fullmatch(r"[A-Za-z_]\w*", str(self.key_variable), re.ASCII):
            raise InputError(  # which may be the key itself
                f"{self.shown}: key_variable is no name of an environment variable, such as OPENAI_API_KEY; "
                "a key itself has no place in a recipe"
            )
        for name, (kinds, least, most) in _BOUNDS.items():
            value = getattr(self, name)
            if value is None and name in _MAY_BE_NONE:
                continue
            whole = kinds == (int,)
            if type(value) not in kinds:
                raise InputError(f"{self.shown}: {name} is {value!r:.40}, expected a {'whole ' * whole}number")
            if not least <= value <= most:
                raise InputError(f"{self.shown}: {name} is {value}, expected {_range(least, most)}")
        if not isinstance(self.fit, Fit):
            raise InputError(f"{self.shown}: fit is {self.fit!r:.40}, expected side and crop")

    @property
    def shown(self) -> str:
        """The address as messages show it: without user, password or key."""
        return redacted(self.base_url)

    def secrets(self) -> tuple[str, ...]:
        """Returns what no text that is kept or shown may hold: the key, and those of the address."""
        return (*((self.key(),) if self.key_variable else ()), *secrets_of(self.base_url))

    def settings(self, attempt: int = 0) -> dict[str, Any]:
        """Returns what shapes an answer: the arguments of the request, but for its messages."""
        return {
            "model": self.model,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature + 0.4 * attempt,
            "seed": self.seed + attempt,
        }

    def key(self) -> str:
        """Returns the key from the environment; InputError where the variable is not set, or holds no key."""
        if self.key_variable is None:
            return "none"  # some servers insist on one
        key = os.environ.get(self.key_variable)
        name = self.key_variable if self.key_variable.isupper() else "the variable of key_variable"
        if not key:
            raise InputError(f"{self.shown}: {name} is not set: put its key there")
        if not re.fullmatch(r"[!-~]+", key):
            raise InputError(f"{self.shown}: the key in {name} holds what no key has (a space, a line end, é)")
        return key

    def cost(self, tokens_in: int, tokens_out: int) -> float | None:
        """Returns the cost of these tokens, or None where no price is known."""
        if self.price_in is None and self.price_out is None:
            return None
        return (tokens_in * (self.price_in or 0) + tokens_out * (self.price_out or 0)) / 1e6


@dataclass(frozen=True)
class Request:
    """A question to a model.

    Attributes:
      key: what it is asked for, such as a record's id and the text that is wanted; once in a run.
      prompt: the text of the question.
      image: path of the image that goes with it.
      system: a system message; none by default.
    """

    key: str
    prompt: str
    image: str | None = None
    system: str = ""


@dataclass(frozen=True)
class Answer:
    """An answer of a model.

    Attributes:
      text: to the letter.
      tokens_in, tokens_out: as the server counted them, or 0 where it doesn't tell.
      seconds: from sending the question to the whole answer.
      truncated: the server cut it off at its limit of tokens.
    """

    text: str
    tokens_in: int
    tokens_out: int
    seconds: float
    truncated: bool = False


@dataclass(frozen=True)
class Outcome:
    """The outcome of a request.

    Attributes:
      request: the question.
      text: the accepted answer on one line, or None.
      reasons: why answers before it, or all, were rejected, or why there is none. The kind of a reason is what stands
        before its colon, if it has one.
      answers: all answers to it, rejected ones too.
      asked: how many of them came from the server just now; the others were in the journal.
    """

    request: Request
    text: str | None
    reasons: tuple[str, ...] = ()
    answers: tuple[Answer, ...] = ()
    asked: int = 0


# Judges an answer on one line: None, or in a few words why it is rejected.
Check = Callable[[Request, str], str | None]
