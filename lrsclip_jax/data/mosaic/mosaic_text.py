"""The words of a mosaic: the captions of its tiles, each with its place, composed into one long text."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from lrsclip_jax.data.draws import pick
from lrsclip_jax.errors import InputError

CountTokens = Callable[[str], int]

MAX_TOKENS = 240  # of a long text with start and end: within a context of 248

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_PLACES = {
    2: ("upper left", "upper right", "lower left", "lower right"),
    3: (
        *("upper left", "upper centre", "upper right"),
        *("middle left", "centre", "middle right"),
        *("lower left", "lower centre", "lower right"),
    ),
}
# Words that open captions and are no names: in mid-sentence they lose their capital.
_OPENERS = frozenset(
    "a an the this that these those there it its some many several few most all both each every no lots dozens "
    "one two three four five six seven eight nine ten in on at by near next beside behind along around between "
    "above below under over with and here to from large small big long wide".split()
)


def place(tile: int, n: int) -> str:
    """Returns where tile number `tile`, in reading order, of an n×n mosaic lies: "in the upper left"."""
    if n in _PLACES:
        return f"in the {_PLACES[n][tile]}"
    row, column = divmod(tile, n)
    return f"in row {row + 1}, column {column + 1}"


def clause(caption: str) -> str:
    """Returns a caption as part of a longer sentence: no full stop, no capital, no blank before a comma."""
    text = re.sub(r"\s+([,.;:!?])", r"\1", " ".join(caption.split())).rstrip(" .;:,")
    text = re.sub(r"[.;]\s+(\w+)", lambda stop: f", {_uncapitalised(stop[1])}", text)
    first, space, rest = text.partition(" ")
    return _uncapitalised(first) + space + rest


def choose_clauses(
    options: Sequence[Sequence[str]],
    rng: np.random.Generator,
    count_tokens: CountTokens,
    max_tokens: int,
    labels: Sequence[str] = (),
) -> list[str]:
    """Draws one clause of each tile's; where `describe` of them exceeds `max_tokens`, tiles take their shortest.

    Those that save most change first. `labels` as `describe` takes them. Raises InputError when even the shortest are
    too long together.
    """
    chosen = [pick(rng, clauses) for clauses in options]
    shortest = [min(clauses, key=count_tokens) for clauses in options]
    savings = [count_tokens(one) - count_tokens(other) for one, other in zip(chosen, shortest, strict=True)]
    for tile in sorted(range(len(options)), key=lambda tile: -savings[tile]):
        if count_tokens(describe(chosen, labels)) <= max_tokens:
            return chosen
        chosen[tile] = shortest[tile]
    if (tokens := count_tokens(describe(chosen, labels))) > max_tokens:
        raise InputError(
            f"the shortest captions of {len(options)} tiles take {tokens} tokens together, more than {max_tokens}:"
            " allow more tokens or put fewer tiles into a mosaic"
        )
    return chosen


def describe(clauses: Sequence[str], labels: Sequence[str] = ()) -> str:
    """Returns the long text of a mosaic: an opening that fits any, then a sentence for each row.

    With a label of each tile it is a summary, which counts the kinds of scenes, then a sentence for each tile.
    """
    n = math.isqrt(len(clauses))
    placed = [f"{place(tile, n)}, {text}" for tile, text in enumerate(clauses)]
    if labels:
        return " ".join([_summary(labels), *map(_sentence, placed)])
    rows = [_sentence("; ".join(placed[start : start + n])) for start in range(0, n * n, n)]
    opening = (
        f"This aerial image is a mosaic of {_number(n * n)} separate scenes, "
        f"put together in {_number(n)} rows of {_number(n)} squares each."
    )
    return " ".join([opening, *rows])


def summaries(clauses: Sequence[str], labels: Sequence[str | None], rng: np.random.Generator) -> list[str]:
    """Returns short texts of a mosaic: the kinds of scenes in it, where all are known, and what one tile shows."""
    n = math.isqrt(len(clauses))
    opening = f"A mosaic of {_number(n * n)} aerial scenes"
    tile = pick(rng, range(len(clauses)))
    texts = [f"{opening}; {place(tile, n)}, {clauses[tile]}."]
    known = [label for label in labels if label]
    if len(known) == len(labels):
        *kinds, last = dict.fromkeys(map(_words, known))
        texts.insert(0, f"{opening}: {', '.join(kinds)} and {last}." if kinds else f"{opening}: {last}.")
    return texts


def _summary(labels: Sequence[str]) -> str:
    """Returns "An aerial image with nine scenes: two of pond, one of bare land and six of school."."""
    *counts, last = (f"{_number(count)} of {kind}" for kind, count in Counter(map(_words, labels)).items())
    kinds = f"{', '.join(counts)} and {last}" if counts else last
    return f"An aerial image with {_number(len(labels))} scenes: {kinds}."


def _uncapitalised(word: str) -> str:
    return word.lower() if word.lower() in _OPENERS else word


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _number(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def _words(label: str) -> str:
    """The words of a class name: "BaseballField" and "baseball_field" are "baseball field"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[_\s]+", " ", label).lower()
