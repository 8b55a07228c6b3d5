"""Taggers: which words of a text carry content, told by what each is in its sentence instead of by a list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from lrsclip_jax.errors import InputError

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
        raise InputError(f"tagger '{spec}' is unknown: spacy:MODEL is expected, such as spacy:en_core_web_sm")
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
