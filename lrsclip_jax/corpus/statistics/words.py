"""The words of a text, and those that carry content: all but six closed classes (RSCLIP, Fig. 1) and a seventh.

RSCLIP's word cloud leaves out determiners, prepositions, conjunctions, WH-pronouns, existentials and adverbs, without
saying how it told them. Here a list decides, not a tagger: a word has one class wherever it stands ("near" is never
an adjective, "left" never a verb). Adverbs are the list's and words in -ly, but for the exceptions that the list has.
Pronouns and auxiliary verbs are left out as well: they are no less grammatical, and "is" would be the largest word.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path

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
