"""What a preparation did: counts of a record, a shard, a set, and the table at the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

from lrsclip_jax.data.prepared.band_set import added
from lrsclip_jax.data.prepared.records import KINDS

CONTEXT_LENGTHS = (77, 248)  # CLIP's and Long-CLIP's: how many texts would be cut there
MISSING, UNREADABLE, NO_TEXT, BAD_ROW = "image not found", "image unreadable", "no text", "row unusable"
_BAR, _BINS = 40, 16


class TextLengthCounts(TypedDict):
    """[tokens, texts] of each length, by kind."""

    long: list[tuple[int, int]]
    short: list[tuple[int, int]]


class StatisticsDocument(TypedDict):
    """Statistics as JSON types."""

    written: int
    bytes: int
    empty_texts: int
    skipped: list[dict[str, str]]
    lengths: TextLengthCounts
    sums: NotRequired[list[list[float]]]
    negatives: NotRequired[int]


@dataclass
class Statistics:
    """Counts that add up, from one item to a whole set.

    `bytes` are those of the written records, `skipped` is [{"id", "reason", "detail"}], `lengths` is
    {kind: {tokens with start and end: texts}}, `sums` those of the values of each band, see `prepared.band_set`, and
    `negatives` are hard negatives.
    """

    written: int = 0
    bytes: int = 0
    empty_texts: int = 0
    skipped: list[dict[str, str]] = field(default_factory=list)
    lengths: dict[str, Counter[int]] = field(default_factory=lambda: {kind: Counter() for kind in KINDS})
    sums: list[list[float]] = field(default_factory=list)
    negatives: int = 0

    @property
    def items(self) -> int:
        """Items of the source: written and skipped ones."""
        return self.written + len(self.skipped)

    @property
    def bad(self) -> int:
        """Rows and images that can't be used."""
        return sum(skip["reason"] != NO_TEXT for skip in self.skipped)

    def __iadd__(self, other: Statistics) -> Statistics:
        self.written += other.written
        self.bytes += other.bytes
        self.empty_texts += other.empty_texts
        self.skipped += other.skipped
        for kind in KINDS:
            self.lengths[kind] += other.lengths[kind]
        self.sums = added(self.sums, other.sums)
        self.negatives += other.negatives
        return self

    def to_json(self) -> dict:
        """Returns it as JSON types; `from_json` reads it back."""
        return {
            **{name: value for name, value in vars(self).items() if value or name not in ("sums", "negatives")},
            "lengths": {kind: sorted(counts.items()) for kind, counts in self.lengths.items()},
        }

    @classmethod
    def from_json(cls, document: StatisticsDocument) -> Statistics:
        """Returns what `to_json` has written; keys of other things in the document are passed over."""
        lengths = document["lengths"]
        return cls(
            written=document["written"],
            bytes=document["bytes"],
            empty_texts=document["empty_texts"],
            skipped=document["skipped"],
            lengths={"long": Counter(dict(lengths["long"])), "short": Counter(dict(lengths["short"]))},
            sums=document.get("sums", []),
            negatives=document.get("negatives", 0),
        )


def table(splits: dict[str, Statistics]) -> str:
    """Returns the closing table: written and skipped by split, why, and how long the texts are in tokens."""
    lines = [f"{'split':<12}{'written':>10}{'skipped':>10}{'MB':>10}"]
    total = Statistics()
    for split, counts in splits.items():
        lines.append(f"{split:<12}{counts.written:>10,}{len(counts.skipped):>10,}{counts.bytes / 1e6:>10,.1f}")
        total += counts
    if total.skipped:
        lines += ["", "skipped (each one in skipped.jsonl):"]
        reasons = Counter(skip["reason"] for skip in total.skipped)
        lines += [f"{count:>10,}  {reason}" for reason, count in reasons.most_common()]
    if total.empty_texts:
        lines += ["", f"{total.empty_texts:,} empty texts left out"]
    for kind in KINDS:
        lines += ["", *histogram(kind, total.lengths[kind])]
    if total.negatives:
        lines += ["", f"{total.negatives:,} short texts have a hard negative"]
    return "\n".join(lines)


def histogram(kind: str, lengths: Counter[int]) -> list[str]:
    """Returns lines: texts of a kind, mean length in tokens, the share cut at 77 and 248, and bars."""
    texts = lengths.total()
    if not texts:
        return [f"{kind} texts: none"]
    mean = sum(length * count for length, count in lengths.items()) / texts
    cut = {limit: sum(n for length, n in lengths.items() if length > limit) for limit in CONTEXT_LENGTHS}
    shares = ", ".join(f"{100 * count / texts:.1f} % exceed {limit}" for limit, count in cut.items())
    longest = max(lengths)
    lines = [f"{kind} texts: {texts:,}, tokens: mean {mean:.1f}, longest {longest}, {shares}"]
    width = 1 << (longest // _BINS).bit_length()  # the power of two that needs at most _BINS bars
    bins = Counter({length // width: 0 for length in range(min(lengths), longest + 1)})
    for length, count in lengths.items():
        bins[length // width] += count
    for index, count in sorted(bins.items()):
        span = f"{index * width}-{(index + 1) * width - 1}" if width > 1 else f"{index}"
        bar = "#" * round(_BAR * count / max(bins.values()))
        lines.append(f"{span:>10}{count:>10,}  {bar}".rstrip())
    return lines
