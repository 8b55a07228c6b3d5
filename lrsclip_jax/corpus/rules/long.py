"""A long caption of an image: how many of each class, where, how arranged and how large, as far as its boxes tell.

Sentences have ranks: the opening, then where each class stands, then the rest. Those of a rank that no longer fit
into the budget of tokens are left out with all after them; the others keep the order of reading.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from lrsclip_jax.corpus.rules import arrangement, wording
from lrsclip_jax.corpus.rules.english import NUMBERS, Phrase, listed, phrase, say, some
from lrsclip_jax.corpus.rules.scene import LISTED, Group, SceneFacts, counted
from lrsclip_jax.data.tokenizer import clip_tokenizer

Ranked = tuple[int, str]


def long(scene: SceneFacts, rng: np.random.Generator, max_tokens: int) -> str:
    """Returns a caption of at most `max_tokens` CLIP tokens, start and end included; "" without boxes."""
    if not scene.groups:
        return ""
    sentences = [*_opening(scene, rng)]
    for group in scene.groups:
        sentences += _of_stuff(group, scene.size, rng) if group.noun.stuff else _of_things(group, scene.size, rng)
    return _within([*sentences, *_relations(scene, rng)], max_tokens)


def _within(sentences: list[Ranked], max_tokens: int) -> str:
    left = max_tokens - 2
    chosen = set()
    for index in sorted(range(len(sentences)), key=lambda index: sentences[index][0]):
        left -= len(clip_tokenizer().encode([sentences[index][1]])[0]) - 2
        if left < 0:
            break
        chosen.add(index)
    return " ".join(text for index, (_, text) in enumerate(sentences) if index in chosen)


def _opening(scene: SceneFacts, rng: np.random.Generator) -> Iterator[Ranked]:
    first, rest = scene.groups[:LISTED], scene.groups[LISTED:]
    if scene.label:
        yield 0, say(rng, wording.OPENINGS_IN_SCENE, counted(first, rng), label=scene.label)
    else:
        yield 0, say(rng, wording.OPENINGS, counted(first, rng))
    for start in range(0, len(rest), LISTED):
        yield 0, say(rng, wording.ALSO, counted(rest[start : start + LISTED], rng))
    if scene.present:
        yield 1, say(rng, wording.PRESENT_TOO, names=listed(scene.present))


def _of_things(group: Group, size: tuple[int, int], rng: np.random.Generator) -> list[Ranked]:
    if len(group.boxes) == 1:
        return list(_of_one(group, size, rng))
    if not arrangement.compact(group.boxes, size):
        return []
    where = list(_places(group, size, rng))
    return where + list(_arrangement(group, size, rng)) + list(_sizes(group, size, rng)) if where else []


def _of_one(group: Group, size: tuple[int, int], rng: np.random.Generator) -> Iterator[Ranked]:
    one, share = group.noun.one, np.prod(arrangement.sizes(group.boxes) ** 2) / np.prod(size)
    if across := arrangement.across(group.boxes, size):
        yield 1, say(rng, wording.SINGLE_ACROSS, one=one, across=wording.ACROSS[across])
    elif arrangement.compact(group.boxes, size):
        yield (
            1,
            say(rng, wording.SINGLE, one=one, where=arrangement.ninth(int(arrangement.ninths(group.boxes, size)[0]))),
        )
        if share <= 0.005:
            yield 4, say(rng, wording.SINGLE_SMALL)
        elif width := arrangement.width(group.boxes[0], size):
            yield 4, say(rng, wording.WIDTH, width=width)
    elif share >= 0.3:
        yield 1, say(rng, wording.SINGLE_WIDE, one=one)


def _places(group: Group, size: tuple[int, int], rng: np.random.Generator) -> Iterator[Ranked]:
    boxes, many = group.boxes, group.noun.many
    where, most = arrangement.region(arrangement.centres(boxes), size), arrangement.mostly(boxes, size)
    if where in wording.NINTHS or (where and len(boxes) > 4):
        yield 1, say(rng, wording.GROUP, many=many, where=where)
    elif len(boxes) <= 4:
        yield 1, say(rng, wording.FEW, many=many, number=NUMBERS[len(boxes)], places=_each(boxes, size))
    elif arrangement.scattered(boxes, size):
        yield 1, say(rng, wording.SCATTERED, many=many)
        if most:
            yield 2, say(rng, wording.MOSTLY_THEM, where=most)
    elif most:
        yield 1, say(rng, wording.MOSTLY, many=many, where=most)
    elif len(cells := np.unique(arrangement.ninths(boxes, size))) == 2:
        yield 1, say(rng, wording.GROUP, many=many, where=_of_image([arrangement.ninth(int(cell)) for cell in cells]))
    else:
        yield 1, say(rng, wording.VARIOUS, many=many)
    at_centre = int(arrangement.central(boxes, size).sum())
    if len(boxes) > 4 and not where and at_centre:
        yield 3, say(rng, wording.CENTRAL, _of_them(at_centre))
    counts = arrangement.quarters(boxes, size)
    if len(boxes) > 4 and not where and counts.min() >= len(NUMBERS):
        yield 3, say(rng, wording.EVERY_QUARTER)
    elif len(boxes) > 4 and not where:
        yield 3, say(rng, wording.QUARTERLY, places=_by_quarter(counts))
    if (
        counts.max() >= len(NUMBERS)
        and not where
        and not most
        and (quarter := arrangement.richest_quarter(boxes, size))
    ):
        yield 3, say(rng, wording.RICHEST, quarter=quarter)


def _each(boxes: np.ndarray, size: tuple[int, int]) -> str:
    """Where each of a few boxes stands: "one is at the top and two are on the left of the image"."""
    places, counts = np.unique(arrangement.ninths(boxes, size), return_counts=True)
    parts = [
        f"{NUMBERS[count]} {'is' if count == 1 else 'are'} {arrangement.ninth(int(place))}"
        for place, count in zip(places, counts, strict=True)
    ]
    return _of_image(parts)


def _of_image(places: list[str]) -> str:
    """Lists places, and says once that they are of the image."""
    suffix = " of the image"
    return listed([place.removesuffix(suffix) for place in places]) + suffix


def _by_quarter(counts: np.ndarray) -> str:
    """How many are in which quarter: "two are in the upper left and three in the lower left"."""
    parts = [f"{some(count)} in the {arrangement.quarter(index)}" for index, count in enumerate(counts) if count]
    verb = "is" if counts[counts > 0][0] == 1 else "are"
    return listed(parts).replace(" in ", f" {verb} in ", 1)


def _arrangement(group: Group, size: tuple[int, int], rng: np.random.Generator) -> Iterator[Ranked]:
    boxes = group.boxes
    if direction := arrangement.row(boxes):
        yield 2, say(rng, [wording.ROWS[direction]])
    elif lines := arrangement.rows(boxes):
        yield 2, say(rng, [wording.GRIDS[lines[0]]], number=NUMBERS[lines[1]])
    elif len(boxes) == 2 and arrangement.gaps(boxes[:1], boxes[1:])[0, 0] >= np.hypot(*size) / 2:
        yield 2, say(rng, wording.APART)
    elif not arrangement.scattered(boxes, size):
        yield from _clusters(boxes, rng)
    if (index := arrangement.alone(boxes)) is not None:
        yield 3, say(rng, wording.ALONE, where=arrangement.ninth(int(arrangement.ninths(boxes, size)[index])))


def _clusters(boxes: np.ndarray, rng: np.random.Generator) -> Iterator[Ranked]:
    if len(arrangement.clusters(boxes, 0.5)) == 1:
        yield 2, say(rng, wording.CLOSE if len(boxes) > 3 else wording.CLOSE_FEW)
    else:
        groups = arrangement.clusters(boxes, 2)
        if 2 <= len(groups) <= 5 and groups.min() >= 3:
            yield 2, say(rng, wording.CLUSTERS, number=NUMBERS[len(groups)])


def _sizes(group: Group, size: tuple[int, int], rng: np.random.Generator) -> Iterator[Ranked]:
    boxes, sides = group.boxes, arrangement.sizes(group.boxes)
    *_, second, largest = np.sort(sides)
    if len(boxes) > 2 and largest <= 1.35 * sides.min():
        yield 3, say(rng, wording.EQUAL)
    elif len(boxes) > 2 and largest >= 2.5 * sides.min() and largest >= 1.1 * second:
        where = arrangement.ninth(int(arrangement.ninths(boxes, size)[sides.argmax()]))
        if where != arrangement.region(arrangement.centres(boxes), size):
            yield 3, say(rng, wording.UNEQUAL, where=where)
    widest = boxes[(boxes[:, 2] - boxes[:, 0]).argmax()]
    if len(boxes) > 2 and largest < 2.5 * sides.min() and (width := arrangement.width(widest, size)):
        yield 4, say(rng, wording.WIDEST, width=width)
    elif largest <= 0.07 * np.sqrt(np.prod(size)):
        yield 4, say(rng, wording.SMALL if len(boxes) > 2 else wording.SMALL_BOTH)
    at_edge = arrangement.at_edge(boxes, size)
    if len(boxes) > 4 and 0 < at_edge < len(boxes):
        yield 4, say(rng, wording.EDGE, _of_them(at_edge))


def _of_stuff(group: Group, size: tuple[int, int], rng: np.random.Generator) -> Iterator[Ranked]:
    what = phrase([(group.noun.one, group.noun.plural)])
    known = group.share is not None
    if group.share is not None:
        share = next(words for start, words in wording.SHARES if 100 * group.share >= start)
        yield 1, say(rng, wording.COVER, what, share=share)
    if where := arrangement.extent(group.boxes, size):
        yield 2 if known else 1, say(rng, wording.STUFF_TOO if known else wording.STUFF, what, where=where)
    elif across := arrangement.across(group.boxes, size):
        templates = wording.STUFF_ACROSS_TOO if known else wording.STUFF_ACROSS
        yield 2 if known else 1, say(rng, templates, what, across=wording.ACROSS[across])


def _relations(scene: SceneFacts, rng: np.random.Generator) -> Iterator[Ranked]:
    """How things stand to the only thing of another class."""
    things = [group for group in scene.groups if not group.noun.stuff][:LISTED]
    for group, other in itertools.combinations(things, 2):
        if len(other.boxes) > 1:
            continue
        near = arrangement.gaps(group.boxes, other.boxes) <= 0.5 * np.minimum.outer(
            arrangement.sizes(group.boxes), arrangement.sizes(other.boxes)
        )
        if arrangement.overlaps(group.boxes, other.boxes).any():
            continue
        if near.any():
            yield 2, say(rng, wording.BESIDE, _of_group(group, int(near.sum())), other=other.noun.one)
        if len(group.boxes) == 1 and (side := arrangement.direction(group.boxes[0], other.boxes[0])):
            yield 2, say(rng, [wording.DIRECTIONS[side]], one=group.noun.one, other=other.noun.one)


def _of_them(count: int) -> Phrase:
    return phrase([(f"{some(count)} of them", count > 1)])


def _of_group(group: Group, count: int) -> Phrase:
    if len(group.boxes) == 1:
        return phrase([(f"the {group.noun.one}", False)])
    amount = "all" if count == len(group.boxes) else some(count)
    return phrase([(f"{amount} of the {group.noun.many}", count > 1)])
