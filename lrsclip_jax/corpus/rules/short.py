"""Five short captions of an image: what stands in its centre, what elsewhere, and three with the counts of classes.

After RemoteCLIP's box-to-caption conversion (arXiv 2306.11029, Algorithm 1), whose sentences were never published.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from lrsclip_jax.corpus.rules import arrangement, wording
from lrsclip_jax.corpus.rules.english import NUMBERS, listed, say
from lrsclip_jax.corpus.rules.scene import LISTED, Group, SceneFacts, counted
from lrsclip_jax.data.draws import differing, pick, shuffled


def short(scene: SceneFacts, rng: np.random.Generator) -> tuple[str, ...]:
    """Returns five different captions of a scene that has groups, classes that are present, or a label."""
    if scene.groups:
        return _of_groups(scene, rng)
    if scene.present:
        return tuple(say(rng, [template], names=listed(scene.present)) for template in shuffled(rng, wording.PRESENT))
    return tuple(say(rng, [template], label=scene.label or "") for template in shuffled(rng, wording.SCENE))


def negatives(
    scene: SceneFacts, texts: Sequence[str], said_by: Callable[[], np.random.Generator], rng: np.random.Generator
) -> tuple[str, ...]:
    """Returns a hard negative for each short caption of a scene; "" where it has none.

    It is the same caption with one number changed by one, up to ten, or with the place mirrored, so that it is false.

    Args:
      scene: of the captions.
      texts: the captions, as `short` returns them.
      said_by: returns the random numbers with which they were said.
      rng: decides what is changed.
    """
    others = [[*map(_mirrored, texts)]]
    for number, group in enumerate(scene.groups[: LISTED + 1]):
        steps = [step for step in (-1, 1) if 0 < len(group.boxes) + step < len(NUMBERS)]
        if len(group.boxes) < len(NUMBERS) and not group.noun.stuff:
            wrong = replace(group, miscount=pick(rng, steps))
            groups = (*scene.groups[:number], wrong, *scene.groups[number + 1 :])
            others.append([*short(replace(scene, groups=groups), said_by())])
    return differing(rng, texts, others)


def _mirrored(text: str) -> str:
    """The text with its place mirrored; itself where it names none."""
    place = next((place for place in arrangement.PARTS if place in text), "")
    return text.replace(place, arrangement.mirrored(place)) if place else text


def _of_groups(scene: SceneFacts, rng: np.random.Generator) -> tuple[str, ...]:
    templates = shuffled(rng, wording.COUNTS)
    at_centre, elsewhere = _parts(scene)
    if at_centre:
        first = say(rng, wording.CENTRE, counted(at_centre, rng))
    elif elsewhere:
        first = say(rng, wording.NOT_IN_CENTRE, counted(elsewhere, rng))
    else:  # ground covers that reach from the middle outwards
        first = say(rng, [templates.pop()], counted(scene.groups, rng))
    if elsewhere:
        second = _elsewhere(elsewhere, scene.size, rng)
    elif at_centre:
        second = say(rng, wording.ALL_IN_CENTRE, counted(at_centre, rng))
    else:
        second = say(rng, [templates.pop()], counted(scene.groups, rng))
    third, fourth = (say(rng, [template], counted(scene.groups, rng)) for template in templates[:2])
    if scene.label:
        fifth = say(rng, wording.COUNTS_IN_SCENE, counted(scene.groups, rng), label=scene.label)
    else:
        fifth = say(rng, [templates[2]], counted([pick(rng, scene.groups)], rng))
    return first, second, third, fourth, fifth


def _parts(scene: SceneFacts) -> tuple[list[Group], list[Group]]:
    """The groups in the centre, and those elsewhere; a ground cover counts where all of its box lies."""
    inside, outside = [], []
    for group in scene.groups:
        if group.noun.stuff:
            within, without = arrangement.middle(group.boxes, scene.size)
        else:
            within = arrangement.central(group.boxes, scene.size)
            without = ~within
        inside += [group.where(within)] if within.any() else []
        outside += [group.where(without)] if without.any() else []
    return inside, outside


def _elsewhere(groups: list[Group], size: tuple[int, int], rng: np.random.Generator) -> str:
    boxes = np.concatenate([group.boxes for group in groups])
    where = arrangement.region(arrangement.centres(boxes), size)
    if where and arrangement.compact(boxes, size):
        return say(rng, wording.ELSEWHERE_PLACED, counted(groups, rng), where=where)
    return say(rng, wording.ELSEWHERE, counted(groups, rng))
