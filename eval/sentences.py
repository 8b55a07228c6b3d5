"""The sentences of a text in words, and texts made of them.

A sentence ends with a full stop before white space, as Long-CLIP has it (`text.split(". ")`); the stop belongs to it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import numpy as np

_END = re.compile(r"(?<=\.)\s+")


def sentences(text: str) -> list[str]:
    """Returns the sentences of a text in order, each with its full stop; at least one, which may be empty."""
    return _END.split(text.strip())


def joined(found: Iterable[str]) -> str:
    """Returns sentences as a text."""
    return " ".join(found)


def shuffled(text: str, seed: int = 0) -> str:
    """Returns a text with its sentences in another order, the same for every call; one sentence stays as it is.

    The order depends on the text and the seed alone. It differs from that of the text, though equal sentences may
    make the same words of it.
    """
    found = sentences(text)
    if len(found) < 2:
        return text
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    rng = np.random.default_rng([seed, int.from_bytes(digest, "little")])
    order = rng.permutation(len(found))
    while (order[:-1] < order[1:]).all():
        order = rng.permutation(len(found))
    return joined(found[place] for place in order)
