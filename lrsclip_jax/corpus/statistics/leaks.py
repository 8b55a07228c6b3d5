"""What the check for leakage has found, as a section of the page: counts of each evaluation set, pairs of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eval.html import elements, galleries
from eval.html.elements import Html
from lrsclip_jax.data.images import read_image
from lrsclip_jax.errors import InputError

SHOWN = 6  # pairs of a set
_SIDE, _GAP = 256, 8  # pixels
NOTE = (
    "Records were left out whose image is near one of an evaluation set by its perceptual hash. A record that is near "
    "images of several sets counts for the nearest."
)
PAIR_NOTE = "Left the image of the record, right the one of the evaluation set; the nearest pairs first."


def leakage_section(found: Mapping[str, Any]) -> Html:
    """Returns the section for what `hygiene.leakage.report` says; pairs of which an image is gone are not shown."""
    rows = [
        [name, *(each[key] for key in ("images", "images_leaked", "records_removed"))] for name, each in found.items()
    ]
    counts = elements.table(rows, ["Evaluation set", "Its images", "Found in the corpus", "Records left out"], NOTE)
    parts = [counts]
    for name, each in found.items():
        if pairs := _pairs(each["examples"]):
            parts += [elements.subheading(name), galleries.pictures(pairs, 2 * _SIDE), elements.remark(PAIR_NOTE)]
    return elements.join(*parts)


def _pairs(examples: Sequence[Mapping[str, Any]]) -> list[galleries.Picture]:
    pairs = []
    for example in examples[:SHOWN]:
        try:
            sides = [_square(example[key]) for key in ("record_image", "image")]
        except InputError:
            continue
        gap = np.full((_SIDE, _GAP, 3), 128, np.uint8)
        bits = example["distance"]
        caption = f"and {Path(example['image']).name}: hashes {bits} {'bit' if bits == 1 else 'bits'} apart"
        pairs.append(galleries.Picture(np.hstack([sides[0], gap, sides[1]]), example["record"], caption))
    return pairs


def _square(path: str) -> np.ndarray:
    """uint8 [256, 256, 3]; the hash doesn't see the shape of an image either."""
    return np.asarray(read_image(path).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS))
