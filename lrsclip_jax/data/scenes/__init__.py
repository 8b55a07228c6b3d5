"""Procedural aerial scenes: endless captioned images for training and tests without a download.

A scene is planned (plan.py, from the tables of kinds.py), drawn (drawing.py with ground.py, things.py and
pen.py) and described (captions.py). Picture and words come from one plan, so every statement is true.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from lrsclip_jax.data.draws import stream
from lrsclip_jax.data.scenes.drawing import bounds, draw
from lrsclip_jax.data.scenes.hard_negatives import negatives
from lrsclip_jax.data.scenes.kinds import KINDS
from lrsclip_jax.data.scenes.plan import Box, ScenePlan, plan
from lrsclip_jax.data.scenes.scene_captions import captions
from lrsclip_jax.errors import InputError

__all__ = ["LABELS", "DrawnScene", "scene"]

LABELS = tuple(KINDS)


@dataclass(frozen=True)
class DrawnScene:
    """A captioned aerial image.

    image: uint8 [size, size, 3]; short: four captions of at most 20 words; long: several sentences, 80 to 220
    CLIP tokens; label: one of `LABELS`; boxes: (class, x0, y0, x1, y1) in pixels of every area and of every
    object on it, as many of a class as the captions say. Cars, trees and bushes are texture, not objects;
    negative: the hard negative of each short caption, the same words with one number, colour or place changed, so that
    they are false; "" where it says none.
    """

    image: np.ndarray
    short: tuple[str, ...]
    long: str
    label: str
    boxes: tuple[tuple[str, float, float, float, float], ...]
    negative: tuple[str, ...]


def scene(seed: int, index: int, size: int = 64) -> DrawnScene:
    """Returns scene `index` of the endless series `seed`, drawn at `size` × `size` pixels.

    It depends on nothing but its arguments; texts and label on (seed, index) alone.
    Raises InputError for a negative seed or index or a size below 16.
    """
    if not (0 <= seed < 2**63 and 0 <= index < 2**63 and size >= 16):
        raise InputError(f"scene {index} of seed {seed} at {size} px: give numbers from 0 and at least 16 px")
    layout, numbers = plan(seed, index), functools.partial(stream, seed, index)
    short, long = captions(layout, numbers(purpose=1))
    negative = negatives(layout, short, lambda: numbers(purpose=1), numbers(purpose=3))
    image = draw(layout, size, numbers(purpose=2))
    return DrawnScene(image, short, long, layout.label, _boxes(layout, size), negative)


def _boxes(layout: ScenePlan, size: int) -> tuple[tuple[str, float, float, float, float], ...]:
    named: list[tuple[str, Box]] = [("bridge", layout.bridge)] if layout.bridge else []
    for area in layout.areas:
        named += [(area.content, area.box), *((thing.kind, thing.box) for thing in area.things)]
    return tuple((name, *bounds(box, layout.tilt, size)) for name, box in named)
