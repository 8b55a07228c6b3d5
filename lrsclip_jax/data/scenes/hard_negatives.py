"""Hard negatives of a scene's short captions: what its words say of a plan that differs in one fact."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from lrsclip_jax.data.draws import differing, pick
from lrsclip_jax.data.scenes.kinds import CONTENTS
from lrsclip_jax.data.scenes.plan import RIVERS, Area, ScenePlan
from lrsclip_jax.data.scenes.scene_captions import short_captions


def negatives(
    plan: ScenePlan, texts: Sequence[str], said_by: Callable[[], np.random.Generator], rng: np.random.Generator
) -> tuple[str, ...]:
    """Returns a hard negative for each short caption of a scene; "" where it has none.

    It is the same caption with a number, a colour or a place changed, so that it is false. The new value is drawn from
    those that the scene might have had: no text shows by itself that it is false, which a model could learn in place of
    looking at the image (SugarCrepe, arXiv 2306.14610).

    Args:
      plan: of the scene.
      texts: its short captions.
      said_by: returns the random numbers with which they were said.
      rng: decides what is changed.
    """
    return differing(rng, texts, [short_captions(changed, said_by()) for changed in _changed(plan, rng)])


def _changed(plan: ScenePlan, rng: np.random.Generator) -> Iterator[ScenePlan]:
    """The plan with one fact changed of which short captions speak, a plan for each.

    These are the number and the colour of the main area's things, the places of the other areas, and a river's colour.
    """
    main, around = ((), plan.areas) if plan.bridge else (plan.areas[:1], plan.areas[1:])
    for area in main:
        for changed in _with_other_things(area, rng):
            yield plan._replace(areas=(changed, *around))
    for number, area in enumerate(around):
        place = _other(rng, [each.place for each in around], area.place)
        yield plan._replace(areas=(*main, *around[:number], area._replace(place=place), *around[number + 1 :]))
    for number, seam in enumerate(plan.seams):
        if seam.colour:
            river = seam._replace(colour=_other(rng, RIVERS, seam.colour))
            yield plan._replace(seams=(*plan.seams[:number], river, *plan.seams[number + 1 :]))


def _with_other_things(area: Area, rng: np.random.Generator) -> Iterator[Area]:
    content = CONTENTS[area.content]
    things = [thing for thing in area.things if thing.kind == content.kind]
    strip = area.things[: len(area.things) - len(things)]
    if len(content.counts) > 1:
        yield area._replace(things=(*strip, *things[:1] * _other(rng, content.counts, len(things))))
    if len(content.colours) > 1:
        colour = _other(rng, content.colours, things[0].colour)
        yield area._replace(things=(*strip, *(thing._replace(colour=colour) for thing in things)))


def _other(rng: np.random.Generator, values: Sequence, value: object) -> Any:
    return pick(rng, [each for each in values if each != value])
