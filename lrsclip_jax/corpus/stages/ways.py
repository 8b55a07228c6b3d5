"""The ways of LRS2M and RSCLIP's two prompts: stages that ask a model for the texts that a record lacks.

LRSCLIP, §III and Fig. 4(a): (1) texts of open sets meet at an image, see `corpus.merging`; (2) long texts are
summarised; (3) short texts and the image become long ones; (4) labels and the image become long ones, which are then
summarised. RSCLIP, §II-A: every image is asked for a short and for a long description.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from lrsclip_jax.corpus.generators import prompts
from lrsclip_jax.corpus.generators.answer_checks import check_long, check_short
from lrsclip_jax.corpus.generators.protocol import Check, Outcome, Request, Server
from lrsclip_jax.corpus.generators.request_queue import ask
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside, Step
from lrsclip_jax.errors import InputError

Records = Iterable[CorpusRecord]
Made = Iterator[CorpusRecord | SetAside]


class Way(NamedTuple):
    """One kind of text that a stage asks for.

    Attributes:
      stage: its name in provenance.
      kind: of the text that it writes, "long" or "short".
      prompt: makes the question of a record; InputError where the record lacks what the question needs.
      shows_image: whether the image goes with it.
      check: judges the answers.
    """

    stage: str
    kind: str
    prompt: Callable[[CorpusRecord], str]
    shows_image: bool
    check: Check


def _summary(record: CorpusRecord) -> str:
    if not record.long:
        raise InputError("there is no long text to summarise")
    return prompts.summarise(record.long[0])


SUMMARISE = Way("summarise", "short", _summary, False, check_short())
EXPAND = Way("expand", "long", lambda record: prompts.expand(record.short), True, check_long())
ANCHOR = Way("anchor", "long", lambda record: prompts.anchors(record.things, record.label), True, check_long())
# RSCLIP's short and long texts meet at about 100 words (its Fig. 1), and BERT reads 512 tokens.
DESCRIBE_SHORT = Way(
    "describe", "short", lambda _: prompts.RSCLIP_SHORT, True, check_short(max_words=100, max_tokens=512)
)
DESCRIBE_LONG = Way("describe", "long", lambda _: prompts.RSCLIP_LONG, True, check_long(min_tokens=20, max_tokens=512))


def write_texts(records: Records, way: Way, server: Server, journal: Path, total: int | None = None) -> Made:
    """Yields the records, in order, with a text of the way's kind where they had none; set aside those that got none.

    What the server is asked, and what it answered, is in `journal`: a stopped stage asks nothing twice. A few requests
    for each in flight are held in memory.

    Args:
      records: of which those that have such a text pass as they are.
      way: what is asked for.
      server: who is asked.
      journal: path of a file of its own for each stage of a corpus.
      total: number of requests, for the progress bar.

    Raises:
      InputError: nobody answers, see `generators.request_queue.ask`.
    """

    def request_of(record: CorpusRecord) -> Request | SetAside | None:
        if getattr(record, way.kind):
            return None
        try:
            text = way.prompt(record)
        except InputError as error:
            return SetAside(record.id, way.stage, str(error))
        return Request(f"{record.id}#{way.kind}", text, str(record.file) if way.shows_image else None)

    for record, outcome in _answered(records, request_of, server, journal, way.check, total):
        if outcome is None:
            yield record
        elif isinstance(outcome, SetAside):
            yield outcome
        elif outcome.text is None:
            yield SetAside(record.id, way.stage, f"no {way.kind} text: {'; '.join(outcome.reasons)}")
        else:
            provenance = (*record.provenance, Step(way.stage, server.model, way.kind))
            written: dict[str, Any] = {way.kind: (outcome.text,), "provenance": provenance}
            yield replace(record, **written)


def _answered(
    records: Records,
    request_of: Callable[[CorpusRecord], Request | SetAside | None],
    server: Server,
    journal: Path,
    check: Check,
    total: int | None,
) -> Iterator[tuple[CorpusRecord, Outcome | SetAside | None]]:
    """Pairs each record, in order, with the outcome of its request, or with what `request_of` gave instead of one."""
    waiting: deque[tuple[CorpusRecord, Request | SetAside | None]] = deque()

    def requests() -> Iterator[Request]:
        for record in records:
            request = request_of(record)
            waiting.append((record, request))
            if isinstance(request, Request):
                yield request

    for outcome in ask(requests(), server, journal, check, total):
        yield from _without_request(waiting)
        yield waiting.popleft()[0], outcome
    yield from _without_request(waiting)


def _without_request(
    waiting: deque[tuple[CorpusRecord, Request | SetAside | None]],
) -> Iterator[tuple[CorpusRecord, SetAside | None]]:
    """Takes the records from the front that asked nothing."""
    while waiting and not isinstance(waiting[0][1], Request):
        record, instead = waiting.popleft()
        yield record, instead if isinstance(instead, SetAside) else None
