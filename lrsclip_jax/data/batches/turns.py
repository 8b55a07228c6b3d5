"""Images turned on the device, and the words of their texts with them.

An aerial scene has no up: every turn of it is a scene as good (SkyScript and FarSLIP train with such rotations). A pair
is turned only where both of its texts can say so (`data.directions`), and with as many tokens, so that all hosts know
how long they are; otherwise it is left as it is. Which turn is drawn is a function of (seed, step, pair).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict

from lrsclip_jax.data.batches.batch import Texts
from lrsclip_jax.data.directions import TURNS, WORDS, turned_words
from lrsclip_jax.data.draws import stream
from lrsclip_jax.data.prepared.records import KINDS
from lrsclip_jax.data.tokenizer import Tokenizer, pieces

_PURPOSE = 103  # of the stream of random numbers


def turns_of_sources(config: ConfigDict) -> tuple[str, ...]:
    """Returns which turns are drawn for each of a config's sources, keys of TURNS; () where none is for any."""
    turns = config.data.augmentation.turns
    by_source = (turns,) * len(config.data.sources) if isinstance(turns, str) else tuple(turns)
    return by_source if {*by_source} - {"none"} else ()


def drawn_turns(
    by_source: Sequence[str], sources: Sequence[int], seed: int, step: int, pairs: int, rows: np.ndarray
) -> np.ndarray:
    """Returns the turns that are drawn for some pairs of a global batch at a step, int32 [b], see `data.directions`.

    Args:
      by_source: from `turns_of_sources`.
      sources: int [b], the source of each pair.
      seed, step: of the run.
      pairs: of the global batch.
      rows: int [b], which of them these are.
    """
    drawn = stream(seed, step, _PURPOSE).random(pairs)[rows].tolist()
    choices = [TURNS[by_source[source]] for source in sources]
    return np.asarray([turns[int(value * len(turns))] for value, turns in zip(drawn, choices, strict=True)], np.int32)


def turned_texts(texts: Texts, turns: np.ndarray, tokenizer: Tokenizer) -> tuple[Texts, np.ndarray]:
    """Returns the texts of pairs as they are once the images are turned, and the turns: 0 where a text can't say it."""
    found = {kind: _turned(texts[kind], turns, tokenizer) for kind in KINDS}
    sayable = np.logical_and.reduce([said for _, said in found.values()])
    new = {
        kind: [new if can else old for new, old, can in zip(found[kind][0], texts[kind], sayable, strict=True)]
        for kind in KINDS
    }
    return new, np.where(sayable, turns, 0).astype(np.int32)


@dataclass(frozen=True)
class _Vocabulary:
    """How words are spelled.

    Attributes:
      spelling: object [vocabulary], the text of each token.
      ends: bool [vocabulary], whether a word ends with it; None where only the next token tells.
      continues: bool [vocabulary], whether it goes on with a word; None where `ends` tells.
      begins: bool [vocabulary], whether a word of WORDS of several tokens begins with it.
      alone: bool [vocabulary], whether it is a word of WORDS.
      ids: the tokens of each word of WORDS.
    """

    spelling: np.ndarray
    ends: np.ndarray | None
    continues: np.ndarray | None
    begins: np.ndarray
    alone: np.ndarray
    ids: dict[str, tuple[int, ...]]


@functools.cache
def _vocabulary(tokenizer: Tokenizer) -> _Vocabulary:
    spelled = pieces(tokenizer)
    tells = any(piece.endswith(" ") for piece in spelled)
    words = sorted(WORDS)
    ids = {word: tuple(of[1:-1]) for word, of in zip(words, tokenizer.encode(words), strict=True)}
    begins, alone = np.zeros((2, len(spelled)), bool)
    begins[[of[0] for of in ids.values() if len(of) > 1]] = True
    alone[[of[0] for of in ids.values() if len(of) == 1]] = True
    return _Vocabulary(
        spelling=np.asarray([piece.strip().removeprefix("##") for piece in spelled], object),
        ends=np.asarray([piece.endswith(" ") for piece in spelled]) if tells else None,
        continues=None if tells else np.asarray([piece.startswith("##") for piece in spelled]),
        begins=begins,
        alone=alone,
        ids=ids,
    )


def _turned(
    texts: Sequence[Sequence[int] | None], turns: np.ndarray, tokenizer: Tokenizer
) -> tuple[list[Sequence[int] | None], np.ndarray]:
    """Returns texts with their words turned, and whether each could be said so, bool [b]."""
    vocabulary, new, sayable = _vocabulary(tokenizer), list(texts), np.ones(len(texts), bool)
    spoken = vocabulary.alone | vocabulary.begins
    for row, (text, turn) in enumerate(zip(texts, turns.tolist(), strict=True)):
        if text is None or not turn:
            continue
        ids = np.asarray(text, np.int32)
        if not spoken[ids].any():
            continue
        words, starts, at = _words(ids, vocabulary)
        replaced = turned_words(words, turn, at)
        sayable[row] = replaced is not None
        for place, word in (replaced or {}).items():
            said = vocabulary.ids[word]
            if len(said) != starts[place + 1] - starts[place]:
                sayable[row] = False
                break
            ids[starts[place] : starts[place + 1]] = said
        new[row] = ids.tolist()
    return new, sayable


def _words(ids: np.ndarray, vocabulary: _Vocabulary) -> tuple[list[str], list[int], list[int]]:
    """Returns the words of a text, where each begins and, last, the end, and which of them are in WORDS.

    A word of several tokens that is none of those is left blank.
    """
    if vocabulary.ends is not None:
        first = np.concatenate([[True], vocabulary.ends[ids[:-1]]])
        first[1:2] = first[-1:] = True  # behind the start token, and the end token
    else:
        assert vocabulary.continues is not None
        first = ~vocabulary.continues[ids]
    starts = [*np.flatnonzero(first).tolist(), len(ids)]
    words = vocabulary.spelling[ids[starts[:-1]]].tolist()
    (many,) = np.nonzero(np.diff(starts) > 1)
    for word in many.tolist():
        begin, end = starts[word], starts[word + 1]
        words[word] = "".join(vocabulary.spelling[ids[begin:end]]) if vocabulary.begins[ids[begin]] else ""
    return words, starts, [place for place, word in enumerate(words) if word in WORDS]
