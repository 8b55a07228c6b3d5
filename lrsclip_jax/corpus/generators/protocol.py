"""The protocol with an OpenAI-compatible server: its settings, requests, answers, and outcomes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lrsclip_jax.corpus.generators.encoded_images import Fit
from lrsclip_jax.errors import InputError


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
        if not self.base_url.startswith(("http://", "https://")):
            raise InputError(f"base_url {self.base_url!r}: expected an address such as http://localhost:8000/v1")
        least = {"concurrency": 1, "retries": 0, "back_off_seconds": 0, "max_tokens": 1, "temperature": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise InputError(f"{self.base_url}: {name} is {getattr(self, name)}, expected at least {low}")
        for name in ("timeout_seconds", "per_minute"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(f"{self.base_url}: {name} is {value}, expected more than 0")

    def settings(self, attempt: int = 0) -> dict[str, Any]:
        """Returns what shapes an answer: the arguments of the request, but for its messages."""
        return {
            "model": self.model,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature + 0.4 * attempt,
            "seed": self.seed + attempt,
        }

    def key(self) -> str:
        """Returns the key from the environment; InputError where the variable is not set."""
        if self.key_variable is None:
            return "none"  # the client insists on one
        if not os.environ.get(self.key_variable):
            raise InputError(f"{self.base_url}: {self.key_variable} is not set: put its key there")
        return os.environ[self.key_variable]

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
