"""One pass over a corpus that counts its parts, its texts and their lengths, its words, licences and makers.

The length of a text is its CLIP tokens before any cut, start and end token included (Table I of LRSCLIP doesn't say
how it counts). Memory is flat in the number of records: lengths are histograms, words and labels are counted as
`sketches.Frequent`, different images and texts as `sketches.Distinct`.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.corpus.statistics.content_words import Tagger, content_words, words
from lrsclip_jax.corpus.statistics.sketches import Distinct, Frequent
from lrsclip_jax.data.tokenizer import clip_tokenizer

KINDS = ("long", "short")
UNKNOWN = "unknown"
READ = "read"  # the stage of a source
CHUNK = 256  # records whose texts are tokenised at once
_PARTICULARS = re.compile(r"""'[^']*'|"[^"]*"|\S*/\S*[^\s:,;]|\d+(?:[.,]\d+)*""")


@dataclass
class TextStatistics:
    """Texts of a kind: {tokens: texts}, {words: texts}, and {who wrote them: records}."""

    tokens: Counter[int] = field(default_factory=Counter)
    words: Counter[int] = field(default_factory=Counter)
    writers: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        """How many texts."""
        return self.tokens.total()

    def __iadd__(self, other: TextStatistics) -> TextStatistics:
        for name, counts in vars(self).items():
            counts.update(getattr(other, name))
        return self


@dataclass
class PartStatistics:
    """The records of a source, or of all: how many (`pairs`), their annotated objects, and {…: records} of the rest.

    `steps` counts (stage, by) of the provenance.
    """

    pairs: int = 0
    objects: int = 0
    texts: Mapping[str, TextStatistics] = field(default_factory=lambda: {kind: TextStatistics() for kind in KINDS})
    licences: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    steps: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __iadd__(self, other: PartStatistics) -> PartStatistics:
        self.pairs += other.pairs
        self.objects += other.objects
        for name in ("licences", "splits", "steps"):
            getattr(self, name).update(getattr(other, name))
        for kind, texts in self.texts.items():
            texts += other.texts[kind]
        return self


@dataclass
class CorpusStatistics:
    """A corpus in numbers.

    Attributes:
      parts: by source, in the order of their first records.
      images: how many different ones, by path.
      distinct: how many different texts of each kind, ignoring case and spacing.
      content: the words of all texts that carry content.
      tagger: who told these; None for the list of `words.content_words`.
      labels: of whole scenes.
      objects: names of annotated objects.
      set_aside: (stage, reason), names and numbers in the reason as "…".
    """

    parts: dict[str, PartStatistics] = field(default_factory=dict)
    images: Distinct = field(default_factory=Distinct)
    distinct: Mapping[str, Distinct] = field(default_factory=lambda: {kind: Distinct() for kind in KINDS})
    content: Frequent = field(default_factory=Frequent)
    tagger: str | None = None
    labels: Frequent = field(default_factory=Frequent)
    objects: Frequent = field(default_factory=Frequent)
    set_aside: Frequent = field(default_factory=Frequent)

    @property
    def whole(self) -> PartStatistics:
        """All parts in one."""
        total = PartStatistics()
        for part in self.parts.values():
            total += part
        return total


def gather(
    records: Iterable[CorpusRecord], set_aside: Iterable[SetAside] = (), tagger: Tagger | None = None
) -> CorpusStatistics:
    """Returns the statistics of records, and of those that stages set aside; texts of nothing but space don't count.

    With a tagger, words carry content by what they are in their sentence; otherwise by a list.
    """
    statistics = CorpusStatistics(tagger=tagger and tagger.name)
    content = tagger.content_words if tagger else functools.partial(map, content_words)
    for chunk in _chunks(records):
        for record in chunk:
            _add_record(statistics, record)
        for kind in KINDS:
            texts = [(r.source, t) for r in chunk for t in getattr(r, kind) if t.strip()]
            _add_texts(statistics, kind, texts)
            for found in content([text for _, text in texts]):
                statistics.content.update(found)
    for each in set_aside:
        statistics.set_aside.update([(each.stage, _PARTICULARS.sub("…", each.reason))])
    return statistics


def writer(record: CorpusRecord, kind: str) -> str:
    """Returns who wrote a record's long or short texts: the last whose step has the kind in its detail, or the source.

    A step that reads a source has written nothing.
    """
    steps = (step for step in reversed(record.provenance) if step.by and step.stage != READ)
    return next((step.by for step in steps if kind in words(step.detail)), record.source)


def _chunks(records: Iterable[CorpusRecord]) -> Iterator[list[CorpusRecord]]:
    records = iter(records)
    while chunk := list(itertools.islice(records, CHUNK)):
        yield chunk


def _add_record(statistics: CorpusStatistics, record: CorpusRecord) -> None:
    part = statistics.parts.setdefault(record.source, PartStatistics())
    part.pairs += 1
    part.objects += len(record.things)
    part.licences[record.licence or UNKNOWN] += 1
    part.splits[record.split or UNKNOWN] += 1
    part.steps.update({(step.stage, step.by) for step in record.provenance})
    statistics.images.add(record.image)
    statistics.labels.update([record.label] if record.label else [])
    statistics.objects.update(thing.name for thing in record.things)
    for kind, texts in part.texts.items():
        if any(text.strip() for text in getattr(record, kind)):
            texts.writers[writer(record, kind)] += 1


def _add_texts(statistics: CorpusStatistics, kind: str, texts: list[tuple[str, str]]) -> None:
    ids = clip_tokenizer().encode([text for _, text in texts])
    for (source, text), tokens in zip(texts, ids, strict=True):
        of_kind = statistics.parts[source].texts[kind]
        of_kind.tokens[len(tokens)] += 1
        of_kind.words[len(words(text))] += 1
        statistics.distinct[kind].add(" ".join(text.lower().split()))
