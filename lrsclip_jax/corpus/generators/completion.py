"""What a server sends: a chat completion by schema, or an error. Nothing in it is trusted."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from eval.reading import parse_json
from lrsclip_jax.corpus.generators.protocol import Answer
from lrsclip_jax.errors import InputError

LARGEST = 8 << 20  # bytes of an answer
_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None


class _Completion(msgspec.Struct):
    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1)]
    usage: _Usage | None = None


def parse_completion(data: bytes) -> Answer:
    """Returns the first answer in a chat completion, its `seconds` 0; InputError where the bytes are none."""
    try:
        found: _Completion = parse_json(data, "its answer", _Completion)
    except InputError as error:
        hint = "; is the end of base_url right (often /v1)?" if b'"choices"' not in data else ""
        raise InputError(f"{error}{hint}") from None
    choice, usage = found.choices[0], found.usage or _Usage()
    return Answer(
        text=choice.message.content or "",
        tokens_in=usage.prompt_tokens or 0,
        tokens_out=usage.completion_tokens or 0,
        seconds=0.0,
        truncated=choice.finish_reason == "length",
    )


def said_by(data: bytes) -> str:
    """Returns what the body of a refusal says: the message of its error, or all of it."""
    try:
        body: Any = parse_json(data, "")
    except InputError:
        body = None
    for name in ("error", "message"):
        body = body.get(name, body) if isinstance(body, dict) else body
    return body if isinstance(body, str) else data.decode("utf-8", "replace")
