"""Text checks: captions that repeat within a corpus are capped, too short and too long ones removed."""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
import unicodedata
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside, Step
from lrsclip_jax.data.tokenizer import clip_tokenizer
from lrsclip_jax.errors import InputError

_WORD = re.compile(r"\w+")
_ARTICLES = frozenset(("a", "an", "the"))
_BLOCK = 512  # records whose texts are tokenised together
_TOLERANCE = 1e-9  # of the bound on the bits, which is no whole number


def caption_words(text: str) -> frozenset[str]:
    """Returns the set of the words of a caption by which it is compared with others.

    Case, compatibility forms (NFKC), punctuation, articles, the order of words and how often one is used make no
    difference: "A plane, in the airport." and "in airport a plane" are one, "two planes in the airport" is another.
    """
    return frozenset(_WORD.findall(unicodedata.normalize("NFKC", text).casefold())) - _ARTICLES


def caption_key(text: str) -> bytes:
    """Returns 8 bytes that captions of the same `caption_words` share: a digest of them."""
    return hashlib.blake2b(" ".join(sorted(caption_words(text))).encode("utf-8", "replace"), digest_size=8).digest()


def cap_captions(
    records: Iterable[CorpusRecord], limit: int, similarity: float = 1.0
) -> Iterator[CorpusRecord | SetAside]:
    """Takes out captions that stand at `limit` earlier images already; short and long ones alike.

    Captions are one whose `caption_words` are: all of them, or with a `similarity` below 1 that share of the words of
    both together (their Jaccard similarity), see `NearCaptions`. Repetitions at one image count once and share their
    fate. A record without a text left is set aside. Which are earlier is the order of the records.

    Holds a dictionary of 8 bytes and a count, some 100 in all, for every distinct key; below 1 another one, and what
    `NearCaptions` holds.
    """
    if limit < 1:
        raise InputError(f"a caption at most {limit} times: choose at least 1")
    near = NearCaptions(similarity)
    originals: dict[bytes, int] = {}

    def one(text: str) -> bytes | int:
        """The key that all captions which count as one share."""
        key = caption_key(text)
        if similarity == 1:
            return key
        if key not in originals:
            originals[key] = near.original(caption_words(text))
        return originals[key]

    uses: Counter[bytes | int] = Counter()
    for record in records:
        keys = {text: one(text) for text in (*record.short, *record.long)}
        fresh = {key for key in keys.values() if uses[key] < limit}
        uses.update(fresh)
        short, long = ([text for text in texts if keys[text] in fresh] for texts in (record.short, record.long))
        yield _with_texts(record, short, long, f"used at {limit} images before")


def bound_captions(
    records: Iterable[CorpusRecord], short: tuple[int, int] = (5, 77), long: tuple[int, int] = (20, 248)
) -> Iterator[CorpusRecord | SetAside]:
    """Takes out captions with fewer or more CLIP tokens than (least, most), start and end token counted.

    A record without a text left is set aside. Holds 512 records.
    """
    for name, (least, most) in {"short": short, "long": long}.items():
        if not 0 <= least <= most:
            raise InputError(f"{name} captions of {least} to {most} tokens: choose 0 ≤ least ≤ most")
    why = f"not of {short[0]} to {short[1]} tokens (short) or {long[0]} to {long[1]} (long)"
    rest = iter(records)
    while block := list(itertools.islice(rest, _BLOCK)):
        texts = list(dict.fromkeys(text for record in block for text in (*record.short, *record.long)))
        lengths = dict(zip(texts, map(len, clip_tokenizer().encode(texts)), strict=True))
        for record in block:
            kept_short = [text for text in record.short if short[0] <= lengths[text] <= short[1]]
            kept_long = [text for text in record.long if long[0] <= lengths[text] <= long[1]]
            yield _with_texts(record, kept_short, kept_long, why)


def _with_texts(record: CorpusRecord, short: Sequence[str], long: Sequence[str], why: str) -> CorpusRecord | SetAside:
    """The record with these of its texts, or set aside where none of them is left."""
    before = len(record.short) + len(record.long)
    out = before - len(short) - len(long)
    if before and out == before:
        return SetAside(record.id, "captions", f"all {before} texts out: {why}")
    if not out:
        return record
    step = Step("captions", detail=f"{out} of {before} texts out: {why}")
    negative = tuple(record.negative_of[text] for text in short) if record.negative else ()
    provenance = (*record.provenance, step)
    return replace(record, short=tuple(short), long=tuple(long), negative=negative, provenance=provenance)


class NearCaptions:
    """Sets of words as they come, each with the first earlier one that it is near to, if any.

    What is near to a near-duplicate only is none: chains don't drag in what they lead to. Holds some 130 bytes, and 4 a
    word, for every set that is near to no earlier one; its sketch is compared with all that are about as large.
    """

    def __init__(self, similarity: float):
        """Sets are near whose Jaccard similarity, common words by all words of the two, is at least `similarity`.

        InputError where that is no share above 0.
        """
        if not 0 < similarity <= 1:
            raise InputError(f"captions of a similarity of {similarity:g}: choose a share above 0 and up to 1")
        self._similarity = similarity
        self._ids: dict[str, int] = {}  # of words
        self._sets: list[array] = []  # of the originals
        # The sketches and the numbers of originals, by how many words these have.
        self._sketches: dict[int, array] = defaultdict(functools.partial(array, "Q"))
        self._numbers: dict[int, array] = defaultdict(functools.partial(array, "Q"))

    def original(self, words: frozenset[str]) -> int:
        """Returns the number of the first earlier original that is near to a set of words, or its own, a new one."""
        own = {self._ids.setdefault(word, len(self._ids)) for word in words}
        sketch = functools.reduce(lambda bits, word: bits ^ (1 << word % 64), own, 0)
        for number in sorted(self._candidates(len(own), sketch)):
            common = len(own.intersection(self._sets[number]))
            if common >= self._similarity * (len(own) + len(self._sets[number]) - common):
                return number
        number = len(self._sets)
        self._sets.append(array("I", own))
        self._sketches[len(own)].append(sketch)
        self._numbers[len(own)].append(number)
        return number

    def _candidates(self, count: int, sketch: int) -> list[int]:
        """The originals that `count` words of this sketch may be near to."""
        found: list[int] = []
        for size, sketches in self._sketches.items():
            if min(size, count) >= self._similarity * max(size, count):
                most = (size + count) * (1 - self._similarity) / (1 + self._similarity) + _TOLERANCE  # words apart
                apart = np.bitwise_count(np.frombuffer(sketches, np.uint64) ^ np.uint64(sketch))
                found += [self._numbers[size][row] for row in np.flatnonzero(apart <= most)]
        return found
