"""Writes what a procedural scene shows, from its plan alone: a long caption and four short ones.

The first sentence of the long caption names the kind of scene and no more. The rest tells two scenes of a kind
apart (which land lies where, how many things of which colour, what runs between them) is said after it.
"""

from __future__ import annotations

import itertools

import numpy as np

from lrsclip_jax.data.draws import pick, shuffled
from lrsclip_jax.data.scenes.kinds import CONTENTS
from lrsclip_jax.data.scenes.plan import Area, ScenePlan, Seam

LABELS = {
    "airport": "an airport",
    "harbour": "a harbour",
    "residential": "a residential area",
    "industrial": "an industrial area",
    "storage tanks": "a group of storage tanks",
    "sports ground": "a sports ground",
    "farmland": "a farm",
    "forest": "a forest",
    "park": "a park",
    "beach": "a beach",
    "bridge": "a bridge over a river",
}
OPENINGS = (  # each fills the first 20 tokens, where short-text models look
    "This high-resolution aerial image, taken from directly above, shows {label} and the land around it.",
    "The image is an aerial view, taken straight down from a great height, of {label} and what surrounds it.",
    "Seen from directly above, this remote sensing image gives an overview of {label} and its surroundings.",
)
AREAS = {
    "meadow": "a bright green meadow",
    "wheat field": "a golden wheat field",
    "ploughed field": "a dark brown ploughed field",
    "lavender field": "a purple lavender field",
    "orchard": "an orchard with rows of round trees",
    "wood": "a dense dark green wood",
    "sand": "a stretch of pale sand",
    "red earth": "a stretch of bare red earth",
    "reservoir": "a blue reservoir",
    "car park": "a grey car park with many cars",
    "solar farm": "a solar farm with dark blue panels",
    "greenhouses": "a group of long white greenhouses",
    "neighbourhood": "a neighbourhood with {things}",
    "paved yard": "a paved yard with {things}",
    "tank farm": "a tank farm with {things}",
    "lawn": "a lawn with {things}",
    "farmyard": "a farmyard with {things}",
    "apron": "a concrete apron with {things}",
    "harbour basin": "a harbour basin with {things}",
    "sports field": "a sports field with {things}",
    "forest": "a dense dark green forest with {things}",
    "park": "a green park with {things}",
    "sea": "the blue sea",
}
DETAILS = {  # a second sentence on the main area
    "apron": "A terminal with a {strip} roof stands {beside} the planes.",
    "harbour basin": "A grey concrete pier lies {beside} the ships.",
    "neighbourhood": "The houses stand in rows with trees in between.",
    "sports field": "The track runs around a green football pitch with white lines.",
    "forest": "The cabin stands alone in a small clearing.",
    "park": "Pale paths wind across the grass between scattered trees.",
    "sea": "A beach of pale sand with {things} lies along the {side} of the water.",
}
SUMMARIES = {  # the main area as a short caption puts it
    "apron": "Some {colour} planes are parked beside a terminal.",
    "harbour basin": "Some {colour} ships lie in a harbour basin.",
    "neighbourhood": "Many houses with {colour} roofs stand in rows.",
    "paved yard": "Some large warehouses with {colour} roofs stand on a paved yard.",
    "tank farm": "Some round {colour} storage tanks stand on bare ground.",
    "sports field": "A {colour} running track surrounds a green football pitch.",
    "farmyard": "A farmyard with {things} is seen from above.",
    "forest": "A cabin with a {colour} roof stands in a clearing of a forest.",
    "park": "A {colour} pond lies in a park with winding paths.",
    "sea": "Some {colour} umbrellas stand on the sand by the sea.",
}
SEAMS = {
    "road": "a grey road",
    "dirt track": "a brown dirt track",
    "railway": "a railway line",
    "trees": "a row of trees",
    "river": "a wide {colour} river",
}
NUMBERS = ("no", "a", "two", "three", "four", "five", "six")
UNCOUNTED = {"sand", "red earth", "greenhouses"}
ROOFED = {"house", "warehouse", "barn", "cabin"}
BESIDE = {"left": "to the left of", "right": "to the right of", "top": "above", "bottom": "below"}
SIDES = {"left": "left side", "right": "right side", "top": "upper side", "bottom": "lower side"}


def captions(plan: ScenePlan, rng: np.random.Generator) -> tuple[tuple[str, ...], str]:
    """Returns the short captions and the long one."""
    return short_captions(plan, rng), _long(plan, rng)


def _long(plan: ScenePlan, rng: np.random.Generator) -> str:
    opening = pick(rng, OPENINGS).format(label=LABELS[plan.label])
    seams = [_seam(seam, plan.areas) for seam in plan.seams]
    if plan.bridge:
        river, road = seams
        main = f"{river} A bridge with white railings carries a road across the water. {road}"
        around = [_area(area, rng) for area in plan.areas]
    else:
        main = _area(plan.areas[0], rng) + _detail(plan.areas[0])
        around = [_area(area, rng) for area in plan.areas[1:]] + seams
    return " ".join([opening, main, *shuffled(rng, around), _relation(plan, rng)])


def short_captions(plan: ScenePlan, rng: np.random.Generator) -> tuple[str, ...]:
    """Returns the short captions."""
    label = LABELS[plan.label]
    around = shuffled(rng, plan.areas if plan.bridge else plan.areas[1:])
    near, other, somewhere = (_kind(around[i]) for i in (0, 1, -1))
    if plan.bridge:
        summary = f"A bridge with white railings crosses a {plan.seams[0].colour} river."
        passing = f"A road crosses a river near {near}."
    else:
        summary = _summary(plan.areas[0])
        passing = f"{_capital(SEAMS[pick(rng, plan.seams).kind])} runs past {label}."
    company = f"{_capital(label)} lies next to {near} and {other}."
    place = f"An aerial image of {label} with {somewhere} {around[-1].place}."
    return summary, passing, company, place


def _area(area: Area, rng: np.random.Generator) -> str:
    name, place = _name(area), area.place
    return pick(
        rng,
        (
            f"{_capital(place)} lies {name}.",
            f"{_capital(name)} lies {place}.",
            f"{_capital(name)} covers {place.removeprefix('in ')}.",
        ),
    )


def _name(area: Area) -> str:
    return AREAS[area.content].format(things=_counted(area))


def _kind(area: Area) -> str:
    if area.content in UNCOUNTED:
        return area.content
    return f"{'an' if area.content[0] in 'aeiou' else 'a'} {area.content}"


def _detail(area: Area) -> str:
    if area.content not in DETAILS:
        return ""
    beside, side = BESIDE.get(area.side), SIDES.get(area.side)
    return " " + DETAILS[area.content].format(
        strip=area.things[0].colour, beside=beside, side=side, things=_counted(area)
    )


def _summary(area: Area) -> str:
    return SUMMARIES[area.content].format(colour=area.things[-1].colour, things=_counted(area))


def _counted(area: Area) -> str:
    """The things of an area, other than its strip, with number and colour: "three white planes"."""
    kind = CONTENTS[area.content].kind
    things = [thing for thing in area.things if thing.kind == kind]
    if not things:
        return ""
    number = NUMBERS[len(things)] if len(things) < len(NUMBERS) else "many"
    colour, noun = things[0].colour, kind if len(things) == 1 else f"{kind}s"
    if kind not in ROOFED:
        return f"{number} {colour} {noun}"
    roofs = f"a {colour} roof" if len(things) == 1 else f"{colour} roofs"
    return f"{number} {noun} with {roofs}"


def _seam(seam: Seam, areas: tuple[Area, ...]) -> str:
    """A seam's course: around the centre, between two areas, or through the whole image."""
    name = _capital(SEAMS[seam.kind].format(colour=seam.colour))
    if seam.axis == "ring":
        return f"{name} runs all around the {areas[0].content} in the centre."
    if seam.end - seam.start < 1:
        return f"{name} runs between the {areas[1].content} and the {areas[2].content}."
    vertical = seam.axis == "vertical"
    ends = "from top to bottom" if vertical else "from left to right"
    if abs(seam.at - 0.5) < 0.04:
        return f"{name} runs {ends} through the middle of the image."
    before, after = ("to the left of", "to the right of") if vertical else ("above", "below")
    return f"{name} runs {ends}, {before if seam.at < 0.5 else after} the middle."


def _relation(plan: ScenePlan, rng: np.random.Generator) -> str:
    """How two neighbouring areas lie to each other."""
    relations = []
    for one, other in itertools.permutations(plan.areas, 2):
        (x0, y0, x1, y1), (u0, v0, u1, v1) = one.box, other.box
        if x1 == u0 and max(y0, v0) < min(y1, v1):
            relations += [(one, "left", other), (other, "right", one)]
        if y1 == v0 and max(x0, u0) < min(x1, u1):
            relations += [(one, "top", other), (other, "bottom", one)]
    one, side, other = pick(rng, relations)
    return f"The {one.content} can be found directly {BESIDE[side]} the {other.content}."


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
