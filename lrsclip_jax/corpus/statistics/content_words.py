"""The words of texts, and those of them that carry content: by a list of function words, or by a tagger."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lrsclip_jax.errors import InputError

LIST = Path(__file__).with_name("function_words.txt")
EXCEPTIONS = "no adverbs, though they end in -ly"
_WORD = re.compile(r"[^\W_]+(?:['\-.,/][^\W_]+)*")
_CLITIC = re.compile(r"'(?:s|re|ve|ll|d|m)$")


def words(text: str) -> list[str]:
    """Returns the words and numbers of a text in lower case; "well-kept" and "3.5" are one each, "." is none."""
    return _WORD.findall(text.lower().replace("’", "'"))


def content_words(text: str) -> list[str]:
    """Returns the words of a text, without 's, that consist of letters and are in no class of `function_words`."""
    bare = (_CLITIC.sub("", word) for word in words(text))
    return [word for word in bare if not is_function_word(word) and word.replace("-", "").isalpha()]


@functools.lru_cache(1 << 16)
def is_function_word(word: str) -> bool:
    """Whether a word in lower case is of a closed class, an adverb by its ending, or a lone letter."""
    classes = function_words()
    if any(word in members for name, members in classes.items() if name != EXCEPTIONS):
        return True
    return len(word) < 2 or word.endswith("n't") or (word.endswith("ly") and word not in classes[EXCEPTIONS])


@functools.cache
def function_words() -> Mapping[str, frozenset[str]]:
    """Returns the shipped list: class → its words in lower case, and under `EXCEPTIONS` what only looks like one."""
    blocks = LIST.read_text(encoding="utf-8").split("\n\n")
    named = (block.strip().split("\n", 1) for block in blocks)
    return {name: frozenset(members.split()) for name, members in named}


# Universal parts of speech (universaldependencies.org/u/pos). RSCLIP's six classes are DET, ADP, CCONJ and SCONJ, PRON
# (WH-words, the existential "there") and ADV; AUX, PART and the rest of PRON are the seventh of `words`.
CONTENT = frozenset(("NOUN", "PROPN", "VERB", "ADJ", "NUM", "INTJ", "X"))
_SPARED = ("parser", "ner", "entity_linker", "lemmatizer", "senter", "textcat")  # of a pipeline: not needed for tags


class Tagger(NamedTuple):
    """A tagger by its name, for the page, and what it does: texts → the words of each, in lower case, with content."""

    name: str
    content_words: Callable[[Sequence[str]], Iterable[list[str]]]


def load_tagger(spec: str) -> Tagger:
    """Returns the tagger "spacy:MODEL": an installed model, such as en_core_web_sm, or the folder of one.

    Raises:
      InputError: another kind of tagger, spaCy or the model is not installed, or it does not tag parts of speech.
    """
    kind, _, model = spec.partition(":")
    if kind != "spacy" or not model:
        raise InputError(f"unknown tagger '{spec}': expected spacy:MODEL, such as spacy:en_core_web_sm")
    try:
        import spacy
    except ImportError:
        raise InputError(f"the tagger {spec} needs spaCy: pip install spacy") from None
    try:
        pipeline = spacy.load(model, exclude=_SPARED)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"spaCy can't load '{model}' ({reason}); python -m spacy download installs models") from None

    def content_words(texts: Sequence[str]) -> Iterable[list[str]]:
        for document in pipeline.pipe(texts):
            if not document.has_annotation("POS"):
                raise InputError(f"spaCy's model '{model}' tags no parts of speech: choose one that does")
            yield [token.lower_ for token in document if token.pos_ in CONTENT and token.is_alpha]

    about = pipeline.meta
    return Tagger(f"{about['lang']}_{about['name']} {about['version']} (spaCy)", content_words)
