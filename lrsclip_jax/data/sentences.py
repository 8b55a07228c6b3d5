"""Where sentences end in token ids: training reads no more than these of a prepared record.

Where texts are at hand, `eval.sentences` says it: at a full stop before white space. A token knows little of the text
around it. CLIP's pattern and BERT's drop blanks, and both lower the case, so "3.5" and
"3. 5" have the same ids. These are the rules:

- A sentence ends with ".", "!" or "?", or several of them, and the brackets and quotes that close behind them.
- A "." between two digits is a decimal point.
- The "." of an initialism ("e.g.", "U.S.") and of a listed abbreviation ends no sentence.
- A text's last sentence ends with the text.

An error of the first kind, as in "image.jpg", splits a sentence; one of the second kind leaves two sentences together.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrsclip_jax.data.tokenizer import Tokenizer, pieces
from lrsclip_jax.errors import InputError

_ABBREVIATIONS = "approx ave blvd bldg ca cf dept dr est fig ft hwy mr mrs ms mt prof resp sq st vs".split()


@dataclass(frozen=True)
class _Marks:
    """What the tokens of a vocabulary are, bool [vocabulary] each.

    Attributes:
      stop: marks that end a sentence, with what closes behind them.
      closer: brackets and quotes that close.
      attached: after such a token another mark is part of the same run of marks.
      dot, digits, letter: ".", a number, a single letter.
      abbreviation: one of the abbreviations, where that is a single token.
      longer: the other abbreviations.
    """

    stop: np.ndarray
    closer: np.ndarray
    attached: np.ndarray
    dot: np.ndarray
    digits: np.ndarray
    letter: np.ndarray
    abbreviation: np.ndarray
    longer: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Sentences:
    """The sentences of T texts, one after the other; start and end tokens belong to none.

    Attributes:
      ids: int32 [N], the tokens of all texts, with their start and end tokens.
      starts, lengths: int64 [S], of each sentence in `ids`.
      counts: int64 [T], how many sentences each text has; 0 for a text without words.
    """

    ids: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    counts: np.ndarray


def split(texts: Sequence[Sequence[int]], tokenizer: Tokenizer) -> Sentences:
    """Returns the sentences of texts, each a list of ids with its start and its end token.

    Raises InputError for a tokenizer whose tokens do not show them, SigLIP's.
    """
    if tokenizer.start is None:
        raise InputError(f"the tokenizer {tokenizer.name!r} does not show where sentences end")
    sizes = np.asarray([len(ids) for ids in texts], np.int64)
    ids = np.fromiter(itertools.chain.from_iterable(texts), np.int32, sizes.sum())
    bounds = np.cumsum(sizes)
    ends = _ends(ids, _marks(tokenizer))
    ends[bounds - 2] = True  # the last word
    ends[bounds - 1] = ends[bounds - sizes] = False  # the end and the start token
    (last,) = np.nonzero(ends)
    text = np.searchsorted(bounds, last, side="right")
    starts = np.concatenate([[-1], last])[:-1] + 1
    first = np.diff(text, prepend=-1) > 0
    starts[first] = (bounds - sizes)[text[first]] + 1
    return Sentences(ids, starts, last - starts + 1, np.bincount(text, minlength=len(sizes)))


def _ends(ids: np.ndarray, marks: _Marks) -> np.ndarray:
    """Returns whether a sentence ends with a token, bool [N]; texts are apart from each other by special tokens."""

    def ahead(values: np.ndarray, by: int) -> np.ndarray:  # of the token `by` places on
        return np.concatenate([values[by:], np.zeros(by, bool)])[: len(values)]

    def behind(values: np.ndarray, by: int) -> np.ndarray:
        return np.concatenate([np.zeros(by, bool), values])[: len(values)]

    stop, dot, letter, digits = (table[ids] for table in (marks.stop, marks.dot, marks.letter, marks.digits))
    closes = marks.closer[ids] & behind(marks.attached[ids], 1)
    part = stop | closes & behind(stop, 1)
    part |= closes & behind(part, 1)
    decimal = behind(digits, 1) & ahead(digits, 1)
    initial = behind(letter, 1) & (ahead(letter, 1) & ahead(dot, 2) | behind(dot, 2) & behind(letter, 3))
    short = behind(marks.abbreviation[ids], 1)
    for word in marks.longer:
        matches = [behind(ids == token, len(word) - place) for place, token in enumerate(word)]
        short |= np.logical_and.reduce(matches)
    return part & ~ahead(stop | closes, 1) & ~(dot & (decimal | initial | short))


@functools.cache
def _marks(tokenizer: Tokenizer) -> _Marks:
    spelled = pieces(tokenizer)
    words = [piece.strip() for piece in spelled]

    def are(form: str) -> np.ndarray:
        return np.asarray([re.fullmatch(form, word) is not None for word in words])

    # CLIP's tokens say where a run of marks ends. BERT's are one mark each, and a plain quote may open as well.
    by_run = any(piece.endswith(" ") for piece in spelled)
    inside = np.asarray([not piece.endswith(" ") for piece in spelled])
    closers = r"[)\]}\"'”’»]" if by_run else r"[)\]}”’»]"
    dot = are(r"\.")
    abbreviation = np.zeros(len(words), bool)
    sequences = [tuple(ids[1:-2]) for ids in tokenizer.encode([f"{word}." for word in _ABBREVIATIONS])]
    abbreviation[[word[0] for word in sequences if len(word) == 1]] = True
    return _Marks(
        stop=are(rf"{closers}*[.!?…]({closers}|[.!?…])*") if by_run else are("[.!?…]"),
        closer=are(rf"{closers}+"),
        attached=inside,
        dot=dot,
        digits=are("[0-9]+"),
        letter=are("[a-z]"),
        abbreviation=abbreviation,
        longer=tuple(word for word in sequences if len(word) > 1),
    )
