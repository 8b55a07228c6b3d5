"""Kinds of config values: what each one allows, in words, and what is wrong with a value that it does not allow.

A kind has `words`, which follow "expected …" and stand in the list of all keys, and `fault(value)`, which returns what
is wrong in one line, or "" for a sound value. Values come from a recipe or from the command line: they may be anything.
"""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from lrsclip_jax.errors import nearest

# A pattern may end in a slice of rows, as in NumPy: `text/position_embedding[0:20]`. Nine digits are more rows than any
# parameter has.
SLICED = re.compile(r"(?P<expression>.*)\[(?P<start>-?[0-9]{0,9}):(?P<stop>-?[0-9]{0,9})\]", re.DOTALL)

_LONGEST = 100  # characters of a value that a message shows


class Values(Protocol):
    """The values that a key may have."""

    @property
    def words(self) -> str: ...

    def fault(self, value: object) -> str: ...


def shown(value: object) -> str:
    """Returns a value as a message shows it: one line, cut where it is long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an integer of 5,000 digits, or an object of the recipe's own that fails to describe itself
        text = f"<{type(value).__name__}>"
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def hint(value: object, names: Iterable[str]) -> str:
    """Returns ", did you mean 'x'?" for the name nearest to a value, or "" for none and for what is no name at all."""
    return nearest(value, names) if isinstance(value, str) and len(value) <= _LONGEST else ""


def plain(number: float) -> str:
    """Returns a number as people write it: 16777216, 0.5, 1e-06."""
    return f"{number:.15g}" if isinstance(number, float) else str(number)


@dataclass(frozen=True)
class Whole:
    """A whole number; True and False are none."""

    least: int = 0
    most: int = 2**31 - 1

    @property
    def words(self) -> str:
        return f"a whole number from {self.least} to {self.most}"

    def fault(self, value: object) -> str:
        sound = isinstance(value, int) and not isinstance(value, bool) and self.least <= value <= self.most
        return "" if sound else f"expected {self.words}"


@dataclass(frozen=True)
class Number:
    """A finite number. `above` leaves out the least one, `below` the greatest."""

    least: float
    most: float
    above: bool = False
    below: bool = False

    @property
    def words(self) -> str:
        least = f"above {plain(self.least)}" if self.above else f"from {plain(self.least)}"
        return f"a number {least} {'to below' if self.below else 'to'} {plain(self.most)}"

    def fault(self, value: object) -> str:
        sound = isinstance(value, int | float) and not isinstance(value, bool) and self.least <= value <= self.most
        if not sound or (self.above and value == self.least) or (self.below and value == self.most):
            return f"expected {self.words}"
        return ""


@dataclass(frozen=True)
class Flag:
    """True or False."""

    words: str = "True or False"

    def fault(self, value: object) -> str:
        return "" if isinstance(value, bool) else f"expected {self.words}"


@dataclass(frozen=True)
class Choice:
    """One of a few names."""

    names: tuple[str, ...]

    @property
    def words(self) -> str:
        return " or ".join(filter(None, (", ".join(map(repr, self.names[:-1])), repr(self.names[-1]))))

    def fault(self, value: object) -> str:
        if isinstance(value, str) and value in self.names:
            return ""
        return f"expected {self.words}{hint(value, self.names)}"


def choice(*names: str) -> Choice:
    """Returns the kind of one of these names."""
    return Choice(names)


@dataclass(frozen=True)
class Text:
    """A text that is not empty, such as a path or a name; `words` say what it names."""

    words: str = "a text"

    def fault(self, value: object) -> str:
        sound = isinstance(value, str) and value.strip() and "\0" not in value
        return "" if sound else f"expected {self.words}"


@dataclass(frozen=True)
class Matching:
    """A text of one form: `form` is a regular expression for all of it, `words` its description."""

    form: str
    words: str

    def fault(self, value: object) -> str:
        return "" if isinstance(value, str) and re.fullmatch(self.form, value) else f"expected {self.words}"


@dataclass(frozen=True)
class Pattern:
    """A regular expression over the paths of parameters, with `rows` one that may end in a slice."""

    rows: bool = True

    @property
    def words(self) -> str:
        example = "text/position_embedding[0:20]" if self.rows else "image/.*"
        return f"a regular expression over parameter paths, such as '{example}'"

    def fault(self, value: object) -> str:
        if not isinstance(value, str) or not value:
            return f"expected {self.words}"
        sliced = SLICED.fullmatch(value)
        if sliced and not self.rows:
            return "this rule is about whole parameters, and the pattern selects rows: leave out its slice"
        try:
            with warnings.catch_warnings():  # Python warns of expressions that may change their meaning one day
                warnings.simplefilter("ignore")
                re.compile(sliced["expression"] if sliced else value)
        except (re.error, OverflowError, RecursionError) as error:
            return f"not a regular expression ({' '.join(str(error).split())})"
        return ""


@dataclass(frozen=True)
class OrNone:
    """None, or a value of another kind."""

    values: Values

    @property
    def words(self) -> str:
        return f"{self.values.words}, or None"

    def fault(self, value: object) -> str:
        if value is None or not (fault := self.values.fault(value)):
            return ""
        # A hint ends the line, so None goes before it.
        return fault.replace(self.values.words, self.words, 1)


@dataclass(frozen=True)
class Either:
    """A value of any of several kinds."""

    kinds: tuple[Values, ...]

    @property
    def words(self) -> str:
        return ", or ".join(kind.words for kind in self.kinds)

    def fault(self, value: object) -> str:
        faults = [kind.fault(value) for kind in self.kinds]
        if not all(faults):
            return ""
        names = [name for kind in self.kinds if isinstance(kind, Choice) for name in kind.names]
        return f"expected {self.words}{hint(value, names)}"


def either(*kinds: Values) -> Either:
    """Returns the kind of a value of any of these kinds."""
    return Either(kinds)


@dataclass(frozen=True)
class Many:
    """A tuple of any number of values of one kind."""

    values: Values
    name: str  # of the values, in the plural
    example: str

    @property
    def words(self) -> str:
        return f"a tuple of {self.name}, such as {self.example}; each {self.values.words}"

    def fault(self, value: object) -> str:
        if not isinstance(value, tuple | list):
            return f"expected a tuple of {self.name}, such as {self.example}"
        faults = ((item, self.values.fault(item)) for item in value)
        return next((f"{shown(item)} in it: {fault}" for item, fault in faults if fault), "")


@dataclass(frozen=True)
class Row:
    """A tuple of values, each of its own kind; the last `optional` of them may be left out."""

    kinds: tuple[Values, ...]
    words: str
    optional: int = 0

    def fault(self, value: object) -> str:
        most = len(self.kinds)
        if not isinstance(value, tuple | list) or not most - self.optional <= len(value) <= most:
            return f"expected {self.words}"
        faults = ((item, kind.fault(item)) for item, kind in zip(value, self.kinds, strict=False))
        return next((f"{shown(item)} in it: {fault}" for item, fault in faults if fault), "")


@dataclass(frozen=True)
class Named:
    """A tuple (first value, name, …) of which the name says what its values are."""

    rows: dict[str, Row]

    @property
    def words(self) -> str:
        return ", or ".join(row.words for row in self.rows.values())

    def fault(self, value: object) -> str:
        if not isinstance(value, tuple | list) or len(value) < 2 or not isinstance(name := value[1], str):
            return f"expected {self.words}"
        if name not in self.rows:
            return f"{shown(name)} is none of {', '.join(map(repr, self.rows))}{hint(name, self.rows)}"
        return self.rows[name].fault(value)


@dataclass(frozen=True)
class Span:
    """Two values of one kind, the first not greater than the second."""

    values: Values
    name: str
    example: str

    @property
    def words(self) -> str:
        return f"{self.name}, such as {self.example}: each {self.values.words}, the first not above the second"

    def fault(self, value: object) -> str:
        if isinstance(value, tuple | list) and len(value) == 2 and not any(map(self.values.fault, value)):
            return "" if value[0] <= value[1] else f"expected {self.words}"
        return f"expected {self.words}"


@dataclass(frozen=True)
class Breakpoints:
    """Pairs (place, value) with rising places, at least one; `places` are steps or shares of the run."""

    places: Values
    values: Values
    words: str

    def fault(self, value: object) -> str:
        pair = Row((self.places, self.values), "")
        if isinstance(value, tuple | list) and value and not any(map(pair.fault, value)):
            rising = all(first[0] < second[0] for first, second in itertools.pairwise(value))
            return "" if rising else f"expected {self.words}"
        return f"expected {self.words}"


class Key(NamedTuple):
    """A key: its name, the default, the values that it may have, and its meaning in one line."""

    name: str
    default: object
    values: Values
    meaning: str
