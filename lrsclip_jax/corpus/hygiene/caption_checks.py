"""Texts: near-duplicates within a corpus are capped, too short and too long ones taken out."""

from __future__ import annotations

import hashlib
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from lrsclip_jax.corpus.hygiene.near_captions import NearCaptions
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside, Step
from lrsclip_jax.data.tokenizer import clip_tokenizer
from lrsclip_jax.errors import InputError

_WORD = re.compile(r"\w+")
_ARTICLES = frozenset(("a", "an", "the"))
_BLOCK = 512  # records whose texts are tokenised together


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
        """What stands for all captions that are one."""
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
    return replace(record, short=tuple(short), long=tuple(long), provenance=(*record.provenance, step))
