"""A page of near pairs, for a person to tell copies from false alarms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from eval.html import elements
from eval.html.frame import page, provenance
from eval.html.galleries import Picture, pictures
from eval.leaks import Leaks
from lrsclip_jax.errors import InputError
from lrsclip_jax.leaks.hashing import image_of
from lrsclip_jax.sources import Item

SHOWN = 12  # pairs of each distance
_SIDE, _GAP = 160, 4  # pixels


class ItemPair(NamedTuple):
    """An evaluation image, the nearest training image, and the bits between them."""

    image: Item
    train: Item
    distance: int


def compose(leaks: Leaks, pairs: Sequence[ItemPair]) -> elements.Html:
    """Returns the page: for each distance some pairs, the evaluation image at the left. Their images are read."""
    name = f"{leaks.dataset}, {leaks.split}" if leaks.split else leaks.dataset
    sources = ", ".join(f"{train.source} ({train.images:,} images)" for train in leaks.train)
    summary = (
        f"{len(pairs):,} of {len(leaks.images):,} images are near a training image of {sources}. Each is shown at the "
        "left of the nearest one. Where many of the farthest pairs show different places, take a smaller --distance."
    )
    sections = []
    for distance in sorted({pair.distance for pair in pairs}, reverse=True):
        alike = [pair for pair in pairs if pair.distance == distance]
        shown = pictures(list(_pictures(alike[:: -(-len(alike) // SHOWN)])), longest=2 * _SIDE + _GAP)
        sections.append((f"{distance} bits apart: {len(alike):,}", shown))
    return page(f"Near pairs: {name}", sections, summary, provenance({"Evaluation set": leaks.source}))


def _pictures(pairs: Sequence[ItemPair]) -> Iterator[Picture]:
    for pair in pairs:
        try:
            both = [image_of(item) for item in (pair.image, pair.train)]
        except InputError:  # it was there when it was hashed
            continue
        left, right = (np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)) for image in both)
        gap = np.full((_SIDE, _GAP, 3), 255, np.uint8)
        yield Picture(np.concatenate([left, gap, right], axis=1), pair.image.id, pair.train.id)
