"""The annotated things of an image, sorted for description: a group for each class, with its boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrsclip_jax.corpus.rules import english
from lrsclip_jax.corpus.rules.english import Noun, Phrase, noun, phrase, quantity, with_article
from lrsclip_jax.corpus.rules.wording import OTHERS
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Thing

LISTED = 5  # classes that a list names


@dataclass(frozen=True, eq=False)
class Group:
    """The things of a class.

    Attributes:
      noun: the class in words.
      boxes: float64 [N, 4], within the image, pixels.
      share: of the image that their outlines cover, 0 to 1; None where some have no outline.
      miscount: how many more of them are said to be there than there are, for a text that is to be false.
    """

    noun: Noun
    boxes: np.ndarray
    share: float | None = None
    miscount: int = 0

    @property
    def count(self) -> int:
        """How many of them are said to be there, at least one."""
        return max(len(self.boxes) + self.miscount, 1)

    def where(self, chosen: np.ndarray) -> Group:
        """Returns the group with some of its boxes."""
        return Group(self.noun, self.boxes[chosen], miscount=self.miscount)


@dataclass(frozen=True, eq=False)
class SceneFacts:
    """An image as its annotation has it.

    Attributes:
      size: width and height in pixels.
      groups: counted things first, the most numerous of them first.
      present: names of classes that are there, without a place.
      label: the class of the whole scene with its article.
    """

    size: tuple[int, int]
    groups: tuple[Group, ...]
    present: tuple[str, ...]
    label: str | None = None


def sort(things: Sequence[Thing], width: int, height: int, label: str | None) -> SceneFacts:
    """Returns the scene of `things`, boxes cut to the image. InputError names a box that is none or lies outside."""
    placed: dict[Noun, list[Thing]] = {}
    present: dict[Noun, None] = {}
    for thing in things:
        what = noun(thing.name)
        if what is None:
            continue
        if thing.box is None:
            present[what] = None
        else:
            placed.setdefault(what, []).append(thing)
    groups = [_group(what, found, width, height) for what, found in placed.items()]
    groups.sort(key=lambda group: (group.noun.stuff, -len(group.boxes)))
    names = tuple(what.one for what in present if what not in placed)
    return SceneFacts((width, height), tuple(groups), names, _scene(label, [*placed, *present]))


def counted(groups: Sequence[Group], rng: np.random.Generator) -> Phrase:
    """Returns the groups in a list with their counts; of many, the first few and "other objects"."""
    shown, rest = groups[:LISTED], groups[LISTED:]
    if sum(len(group.boxes) for group in rest if not group.noun.stuff) < 2:
        shown, rest = groups[: LISTED + 1], ()
    items = [(quantity(group.count, group.noun, rng), _is_plural(group)) for group in shown]
    return phrase([*items, (OTHERS, True)] if rest else items)


def _scene(label: str | None, found: Sequence[Noun]) -> str | None:
    """The label in words, None where it is but one of the classes: no "storage tanks with three storage tanks"."""
    text = english.scene(label) if label else None
    return None if any(text in (what.one, what.many, with_article(what.one)) for what in found) else text


def _is_plural(group: Group) -> bool:
    return group.noun.plural if group.noun.stuff else group.count > 1


def _group(what: Noun, things: Sequence[Thing], width: int, height: int) -> Group:
    limits = np.array([width, height, width, height])
    boxes = np.array([thing.box for thing in things], np.float64)
    cut = np.clip(boxes, 0, limits)
    empty = ~(cut[:, :2] < cut[:, 2:]).all(1)  # also where a coordinate is not a number
    if empty.any():
        thing = things[int(empty.argmax())]
        raise InputError(
            f"the box {thing.box and tuple(thing.box)} of a {thing.name!r} has no area in the image of "
            f"{width} x {height} pixels"
        )
    whole = all(thing.polygon for thing in things) and np.array_equal(cut, boxes)
    share = sum(abs(_area(thing.polygon)) for thing in things) / (width * height) if whole else None
    return Group(what, cut, share if share is None or share <= 1 else None)


def _area(polygon: Sequence[tuple[float, float]]) -> float:
    x, y = np.asarray(polygon, np.float64).T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
