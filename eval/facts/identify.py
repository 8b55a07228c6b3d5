"""Which data set of the papers some images are: by the name of their file or folder, or by their classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from eval.facts import classes
from eval.facts.names import Kind, meaning, says_nothing
from eval.papers.published_tables import key


class Identity(NamedTuple):
    """What to call a data set, and a line for a person: why it is called so; "" where it keeps its own name."""

    name: str
    note: str


def identify(names: Sequence[str], kind: Kind, labels: Iterable[str] = ()) -> Identity:
    """Returns the data set of the papers that a source is, or the source's own name.

    The name decides. One that says nothing ("Images") leaves it to the folders around it, and then to the classes. If
    the name means one data set and the classes are those of another, the classes are believed. Classes alone never
    rename a source whose name says something: it may be a changed copy.

    Args:
      names: of the source, without suffix, and of the folders around it, from the inside.
      kind: of the material.
      labels: of all images, with repetitions.
    """
    own = names[0]
    around = names[1:] if says_nothing(own) else ()
    named = meaning(own, kind) or next(filter(None, (meaning(name, kind) for name in around)), None)
    shown = classes.recognise(labels) if kind == "classes" else None
    if shown and named not in (None, shown.title):
        return Identity(shown.title, f"{own} is {shown.title}, by its classes, which are not those of {named}")
    if shown and not named and says_nothing(own):
        return Identity(shown.title, f"{own} is {shown.title}, by its classes")
    if shown and not named:
        return Identity(own, f"{own} has the classes of {shown.title}: say so if it is that data set")
    if named and key(named) != key(own):
        return Identity(named, f"{own} is {named}, by its name")
    return Identity(own, "")
