"""Images turned on the device, and the words of their texts with them.

An aerial scene has no up: every turn of it is a scene as good (SkyScript and FarSLIP train with such rotations). A pair
is turned only where all of its texts can say so (`data.directions`), and with as many tokens, so that all hosts know
how long they are; otherwise it is left as it is. Which turn is drawn is a function of (seed, step, pair).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict

from lrsclip_jax.config.facts import turns_images
from lrsclip_jax.data.batches.batch import Texts
from lrsclip_jax.data.directions import TURNS, WORDS, turned_words
from lrsclip_jax.data.draws import stream
from lrsclip_jax.data.tokenizer import Tokenizer, pieces

_PURPOSE = 103  # of the stream of random numbers


def turns_of_sources(config: ConfigDict) -> tuple[str, ...]:
    """Returns which turns are drawn for each of a config's sources, keys of TURNS; () where none is for any."""
    turns = config.data.augmentation.turns
    by_source = (turns,) * len(config.data.sources) if isinstance(turns, str) else tuple(turns)
    return by_source if turns_images(config) else ()


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
    found = {kind: _turned(of_kind, turns, tokenizer) for kind, of_kind in texts.items()}
    sayable = np.logical_and.reduce([said for _, said in found.values()])
    new = {
        kind: [new if can else old for new, old, can in zip(found[kind][0], of_kind, sayable, strict=True)]
        for kind, of_kind in texts.items()
    }
    return new, np.where(sayable, turns, 0).astype(np.int32)


@dataclass(frozen=True)
class _Vocabulary:
    """How words are spelled.

    Attributes:
      spelling: object [vocabulary], the text of each token.
      ends: bool [vocabulary], whether a word ends with it; None where only the next token tells.
      continues: bool [vocabulary], whether it continues a word; None where `ends` tells.
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
    there = [row for row, text in enumerate(texts) if text is not None and turns[row]]
    sizes = [len(texts[row]) for row in there]  # type: ignore[arg-type]
    ids = np.fromiter(itertools.chain.from_iterable(texts[row] for row in there), np.int32, sum(sizes))  # type: ignore[misc]
    words, starts, at = _words(ids, np.cumsum([0, *sizes]), vocabulary)
    bounds = np.searchsorted(starts, np.cumsum([0, *sizes])).tolist()  # of the words of each text
    places = np.searchsorted(at, bounds).tolist()
    for number, row in enumerate(there):
        first, last = bounds[number : number + 2]
        spoken = [place - first for place in at[places[number] : places[number + 1]]]
        if not spoken:
            continue
        replaced = turned_words(words[first:last], int(turns[row]), spoken)
        said = {first + place: vocabulary.ids[word] for place, word in (replaced or {}).items()}
        if replaced is None or any(len(of) != starts[place + 1] - starts[place] for place, of in said.items()):
            sayable[row] = False
            continue
        text, begin = list(texts[row]), starts[first]  # type: ignore[arg-type]
        for place, of in said.items():
            text[starts[place] - begin : starts[place + 1] - begin] = of
        new[row] = text
    return new, sayable


def _words(ids: np.ndarray, bounds: np.ndarray, vocabulary: _Vocabulary) -> tuple[list[str], list[int], list[int]]:
    """Returns the words of texts, where each begins and, last, the end, and which of them are in WORDS.

    A word of several tokens that is none of those is left blank.

    Args:
      ids: int32 [N], the tokens of all texts.
      bounds: int [T + 1], where each text begins, and the end.
      vocabulary: of the tokens.
    """
    if vocabulary.ends is not None:
        first = np.concatenate([[True], vocabulary.ends[ids[:-1]]])[: len(ids)]
        first[bounds[:-1]] = first[bounds[:-1] + 1] = first[bounds[1:] - 1] = True  # special tokens, and behind them
    else:
        assert vocabulary.continues is not None
        first = ~vocabulary.continues[ids]
    begins = np.flatnonzero(first)
    lengths = np.diff(begins, append=len(ids))
    words = vocabulary.spelling[ids[begins]]
    words[lengths > 1] = ""
    spoken = (lengths == 1) & vocabulary.alone[ids[begins]]
    for word in np.flatnonzero((lengths > 1) & vocabulary.begins[ids[begins]]).tolist():
        words[word] = "".join(vocabulary.spelling[ids[begins[word] : begins[word] + lengths[word]]])
        spoken[word] = words[word] in WORDS
    return words.tolist(), [*begins.tolist(), len(ids)], np.flatnonzero(spoken).tolist()
