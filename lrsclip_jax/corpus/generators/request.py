"""What is asked of a model, what it answers, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


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
    """What a model answered.

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
    """What became of a request.

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
