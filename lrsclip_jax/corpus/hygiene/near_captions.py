"""Captions that are nearly the same: those that share most of their words, exactly, and without comparing all words.

Of each set of words a sketch of 64 bits is held: every word flips one of them. Two sketches differ in no more bits than
their sets do in words; so most sets are told to be too different by a machine word each, and few are compared.
"""

from __future__ import annotations

import functools
from array import array
from collections import defaultdict

import numpy as np

from lrsclip_jax.errors import InputError

_TOLERANCE = 1e-9  # of the bound on the bits, which is no whole number


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
