"""Masks that COCO encodes by run lengths: zeros and ones by turns, column after column, as numbers or as text.

pycocotools decodes the same, but trusts what it reads: texts of random bytes make version 2.0.11 write past its memory,
and a size of 0 ends the process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.annotations.mask_objects import outline
from lrsclip_jax.sources.annotations.outlines import Polygon

_DIGITS = 7  # of five bits each, of a number below 2^32


def is_run_lengths(segmentation: Any) -> TypeGuard[Mapping[str, Any]]:
    """Returns whether an annotation's segmentation is a mask by run lengths, right or wrong."""
    return isinstance(segmentation, Mapping) and "counts" in segmentation and "size" in segmentation


def outline_of_runs(segmentation: Mapping[str, Any], size: tuple[int, int]) -> Polygon:
    """Returns the outline of a mask along the edges of its pixels, which has their number as its area.

    Args:
      segmentation: {"counts": numbers, or COCO's text of them, "size": [height, width]}.
      size: width and height of the image.

    Returns:
      The polygon, parts and holes joined by cuts of no width; () of a mask without a pixel.

    Raises:
      InputError: the mask is for another size, is no mask, or has more pixels than the image.
    """
    width, height = size
    if segmentation["size"] != [height, width]:
        raise InputError(f"its mask is for {segmentation['size']!r:.40}, [{height}, {width}] is expected")
    counts = segmentation["counts"]
    runs = _of_text(counts) if isinstance(counts, str) else _of_numbers(counts)
    ends = np.cumsum(np.asarray(runs, np.int64)) if sum(runs) <= width * height else None
    if ends is None:
        raise InputError(f"its mask has more than {width} × {height} pixels")
    starts, ends = ends[:-1:2], ends[1::2]
    starts, ends = starts[starts < ends], ends[starts < ends]
    if not len(starts):
        return ()
    left, right = int(starts[0]) // height, (int(ends[-1]) - 1) // height + 1
    flat = np.zeros((right - left) * height, bool)
    for start, end in zip((starts - left * height).tolist(), (ends - left * height).tolist(), strict=True):
        flat[start:end] = True
    mask = flat.reshape(right - left, height).T
    rows = np.flatnonzero(mask.any(1))
    top = int(rows[0])
    return tuple((float(left + x), float(top + y)) for x, y in outline(mask[top : int(rows[-1]) + 1]))


def _of_numbers(counts: Any) -> Sequence[int]:
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        raise InputError(f"its mask is {counts!r:.40}, numbers of pixels are expected")
    return counts


def _of_text(counts: str) -> Sequence[int]:
    """COCO's own encoding: five bits a character, from the 48th on, the lowest first; the sixth says that more follow.

    From the fourth on, a number is the difference to the one two before.
    """
    runs: list[int] = []
    value = digits = 0
    for character in counts:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or digits == _DIGITS:
            raise InputError(f"its mask is {counts!r:.40}, which is no text of run lengths")
        value |= (bits & 31) << 5 * digits
        digits += 1
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << 5 * digits
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        if runs[-1] < 0:
            raise InputError(f"its mask is {counts!r:.40}, which has a run of {runs[-1]} pixels")
        value = digits = 0
    if digits:
        raise InputError(f"its mask is {counts!r:.40}, which is cut off")
    return runs
