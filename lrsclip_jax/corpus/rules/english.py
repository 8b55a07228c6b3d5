"""English from class names: nouns with their plurals, articles, numbers, vague words, lists and sentences."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.facts.classes import dataset, datasets, words
from eval.papers.published_tables import key
from lrsclip_jax.corpus.rules import nouns
from lrsclip_jax.data.draws import pick
from lrsclip_jax.errors import InputError, optional

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
# The words for counts beyond ten, from the count on at which they are true.
VAGUE = ((11, ("many", "a lot of", "numerous")), (25, ("dozens of", "a large number of")), (200, ("hundreds of",)))
_THIRD_PERSON = {"are": "is", "cover": "covers", "lie": "lies", "reach": "reaches"}


@dataclass(frozen=True)
class Noun:
    """A class in words.

    Attributes:
      one, many: singular and plural. A noun that is not counted has the same for both.
      stuff: whether it covers ground and is not counted, such as water.
    """

    one: str
    many: str
    stuff: bool = False

    @property
    def plural(self) -> bool:
        """Whether the name of what is not counted takes a plural verb: "roads cover …"."""
        return self.one in nouns.STUFF_PLURAL


@dataclass(frozen=True)
class Phrase:
    """A part of a sentence that verbs agree with: `plural` as a whole, `plural_start` in its first noun."""

    text: str
    plural: bool
    plural_start: bool

    @property
    def forms(self) -> dict[str, str]:
        """The words that depend on it, as the templates name them."""
        return {
            **{verb: verb if self.plural else third for verb, third in _THIRD_PERSON.items()},
            "it": "they" if self.plural else "it",
            "there_are": "there are" if self.plural_start else "there is",
        }


@functools.cache
def noun(name: str) -> Noun | None:
    """Returns a class name as a noun, None for names such as "background"; InputError where it has no letters.

    "small-vehicle", "ground_track_field", "storageTank", "tenniscourt" and "Trees" become what a sentence can use.
    """
    text = re.sub(r"\bw/", "with ", re.sub(r"\([^)]*\)", " ", name))  # "Truck w/Box" of xView
    text = words(text.replace("/", " or "))
    text = re.sub(r"[^\w' ]+", " ", text)
    text = re.sub(r"\s+", " ", text).strip()
    if not any(letter.isalpha() for letter in text):
        raise InputError(f"the class {name!r} has no name in words: give it one before it is described")
    if all(part in nouns.NAMELESS for part in text.split(" or ")):
        return None
    text = nouns.MEANINGS.get(text) or _compounds().get(key(text), text)
    one = singular(text)
    if stuff := nouns.STUFF.get(text) or nouns.STUFF.get(one):
        return Noun(stuff, stuff, stuff=True)
    one = nouns.MEANINGS.get(one, one)
    return Noun(_capitals(one), _capitals(plural(one)))


def singular(text: str) -> str:
    """Returns a noun phrase with its head in the singular: "storage tanks", "fields of wheat"."""
    return _on_head(text, _singular)


def plural(text: str) -> str:
    """Returns a singular noun phrase in the plural: "buses", "crossroads", "blocks of flats", "huts or tents"."""
    return _on_head(text, _plural)


def with_article(text: str) -> str:
    """Returns a singular noun phrase with "a" or "an", by its sound."""
    sound = text.lower()
    vowel = re.match(nouns.VOWEL_SOUND, sound) and not re.match(nouns.CONSONANT_SOUND, sound)
    return f"{'an' if vowel else 'a'} {text}"


def quantity(count: int, what: Noun, rng: np.random.Generator) -> str:
    """Returns how many there are: "a tree", "three trees", beyond ten a vague word, "water" without a number."""
    if what.stuff:
        return what.one
    return with_article(what.one) if count == 1 else f"{amount(count, rng)} {what.many}"


def amount(count: int, rng: np.random.Generator) -> str:
    """Returns a number word up to ten, and beyond a vague word that is true of the count, RemoteCLIP's rule."""
    if count < len(NUMBERS):
        return NUMBERS[count]
    return pick(rng, [word for start, options in VAGUE if count >= start for word in options])


def some(count: int) -> str:
    """Returns how many of a group, as it goes before "of them": a number word, or "many"."""
    return NUMBERS[count] if count < len(NUMBERS) else "many"


def phrase(items: Sequence[tuple[str, bool]]) -> Phrase:
    """Joins (text, whether it is plural) to a list."""
    return Phrase(listed([text for text, _ in items]), len(items) > 1 or items[0][1], items[0][1])


def say(rng: np.random.Generator, templates: Sequence[str], things: Phrase | None = None, **slots: str) -> str:
    """Returns a sentence: one of the templates, drawn, with its slots filled."""
    forms = {"things": things.text, **things.forms} if things else {}
    text = pick(rng, templates).format(**forms, **slots)
    return f"{text[0].upper()}{text[1:]}."


def listed(items: Sequence[str]) -> str:
    """Returns "a", "a and b", "a, b and c"."""
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last


@functools.cache
def scene(label: str) -> str:
    """Returns the class of a whole scene with its article: "a beach", "farmland", "a dense residential area"."""
    text = words(label)
    text = nouns.SCENES.get(text) or _compounds().get(key(text), text)
    if text.split()[-1] in nouns.AREAS:
        text += " area"
    text = _capitals(text)
    stuff = nouns.STUFF.get(text) or (text if text.split()[-1] in nouns.STUFF and text != "sea" else None)
    if stuff:
        return "a forest" if stuff == "forest" else stuff
    return text if singular(text) != text else with_article(text)


@functools.cache
def _compounds() -> dict[str, str]:
    """The words of names written as one, from the class names of the benchmarks: "tenniscourt" is "tennis court"."""
    found: dict[str, str] = {}
    for name in datasets():
        for text in dataset(name).classes.values():
            found.setdefault(key(text), text)
    return found


def _on_head(text: str, change: Callable[[str], str]) -> str:
    """Applies `change` to the nouns that a phrase is about: the last word, or the one before "of" or "with"."""
    if " or " in text:
        return " or ".join(_on_head(part, change) for part in text.split(" or "))
    match = re.fullmatch(r"(.*?)(?:( (?:of|with) )(.*))?", text)
    head, link, rest = match.groups(default="") if match else (text, "", "")
    *before, last = head.split(" ")
    return " ".join([*before, change(last)]) + link + rest


def _plural(word: str) -> str:
    if word in nouns.INVARIANT:
        return word
    if word in nouns.IRREGULAR:
        return nouns.IRREGULAR[word]
    if word.endswith("man") and word != "human":
        return f"{word[:-3]}men"
    if re.search(nouns.UNSURE, word):
        return _inflect().plural_noun(word)
    if re.search(r"(s|x|z|ch|sh)$", word):
        return f"{word}es"
    return f"{word[:-1]}ies" if re.search(r"[^aeiou]y$", word) else f"{word}s"


def _singular(word: str) -> str:
    if word in nouns.INVARIANT or word in nouns.SINGULAR:
        return word
    if word in _SINGULARS:
        return _SINGULARS[word]
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if re.search(r"(ss|x|z|ch|sh)es$", word) or (word.endswith("es") and word[:-2] in nouns.SINGULAR):
        return word[:-2]
    if re.search(nouns.UNSURE_PLURAL, word):
        return _inflect().singular_noun(word) or word
    return word[:-1] if word.endswith("s") and not re.search(r"(ss|(?<!ea)us|is)$", word) else word


_SINGULARS = {many: one for one, many in nouns.IRREGULAR.items()}


@functools.cache
def _inflect() -> Any:
    """It knows the words that follow no rule, and takes a second to import; it does not know those of `nouns`."""
    return optional("inflect", "corpus").engine()


def _capitals(text: str) -> str:
    """Gives what is spelled out its capitals: "SUV", "UAVs", "HVAC unit"."""
    return re.sub(r"\w+", _capital, text)


def _capital(match: re.Match[str]) -> str:
    word = match[0]
    if word in nouns.SPELLED:
        return word.upper()
    return f"{word[:-1].upper()}s" if word.endswith("s") and word[:-1] in nouns.SPELLED else word
