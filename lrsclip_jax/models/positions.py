"""Position tables made longer (text: knowledge-preserved stretching, KPS) or of another grid (images), and rotary."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lrsclip_jax.errors import InputError


def stretch_positions(
    table: np.ndarray, keep: int = 20, ratio: int | None = None, length: int | None = None
) -> np.ndarray:
    """Knowledge-preserved stretching (KPS) of a text position table, as Long-CLIP's and LRSCLIP's code computes it.

    The first `keep` rows stay; every later row is followed by ratio − 1 rows on the line to its successor, and the
    last row by ratio − 1 rows on the line that the last two rows define. So row k ≥ keep is the old table read at
    p = keep + (k − keep)/ratio, linearly between rows and beyond the end: 77 rows become 20 + 4·57 = 248.

    The paper prints another rule (LRSCLIP Eqs. 3 and 4): for k > keep, old rows ⌊k/ratio⌋ and ⌈k/ratio⌉ with weight
    (k mod ratio)/ratio. It lacks both offsets, so that row 21 would come from old rows 5 and 6 and row 247 from
    61 and 62: well-trained rows repeat, rows 63 to 76 are never used, and the extrapolated end is missing. Every
    released checkpoint follows the code, and so does this function.

    Args:
      table: [L, W], any float dtype.
      keep: rows that stay as they are, 0 ≤ keep < L. With 0 every row is interpolated: the plain
        interpolation that Long-CLIP (arXiv 2403.15378) compares KPS with.
      ratio: new rows for each later row; None: 4, or with `length` the smallest that reaches it.
      length: rows to which the result is cut; None: it is not.

    Returns:
      float32 [keep + ratio·(L − keep), W], or [length, W].

    Raises:
      InputError: a table of fewer than two rows, `keep`, `ratio` or `length` out of range, a ratio that does not reach
        `length`.
    """
    table = np.asarray(table, np.float32)
    if table.ndim != 2 or len(table) < 2:
        raise InputError(f"position table of shape {list(table.shape)}: stretching needs [rows, width], rows ≥ 2")
    if not 0 <= keep < len(table):
        raise InputError(f"cannot keep {keep} of {len(table)} position rows: keep must be 0…{len(table) - 1}")
    if length is not None:
        if length < 1:
            raise InputError(f"cannot stretch positions to length {length}: it must be at least 1")
        least = max(1, math.ceil((length - keep) / (len(table) - keep)))
        ratio = least if ratio is None else ratio
        if 1 <= ratio < least:
            raise InputError(
                f"{len(table)} position rows, of which {keep} are kept, become {keep + ratio * (len(table) - keep)} by "
                f"ratio {ratio}, fewer than {length}: the ratio must be {least} or more"
            )
    ratio = 4 if ratio is None else ratio
    if ratio < 1:
        raise InputError(f"cannot stretch positions by ratio {ratio}: it must be at least 1")
    step = np.arange(ratio, dtype=np.float32)[:, None]
    between = ((ratio - step) * table[keep:-1, None] + step * table[keep + 1 :, None]) / ratio
    beyond = table[-1] + step * (table[-1] - table[-2]) / ratio
    return np.concatenate([table[:keep], between.reshape(-1, table.shape[1]), beyond])[:length]


def resize_positions(table: np.ndarray, grid: int | tuple[int, int], antialias: bool) -> np.ndarray:
    """Bicubic resize of an image position table, equal to torch's `interpolate(mode="bicubic", align_corners=False)`.

    open_clip resizes with antialias, DINOv2 and MAE without; from 37×37 to 16×16 the results differ by tens of per
    cent, so `antialias` has no default.

    Args:
      table: [1 + g·g, W] with the class token's row first, which stays as it is, or [g·g, W] without one; which of
        the two follows from the number of rows, since no two squares but 0 and 1 are neighbours.
      grid: the new grid, side or (height, width).
      antialias: widen the kernel when shrinking. As in torch it also changes the cubic's parameter from −0.75 to
        −0.5, and the treatment of borders from repeating the edge to leaving out what lies beyond.

    Returns:
      float32 [1 + h·w, W] or [h·w, W].

    Raises:
      InputError: a number of rows that is neither a square nor a square plus one; an empty grid.
    """
    table = np.asarray(table, np.float32)
    height, width = (grid, grid) if isinstance(grid, int) else grid
    if min(height, width) < 1:
        raise InputError(f"cannot resize positions to a grid of {height}×{width}")
    rows = len(table)
    side = math.isqrt(rows)
    first = rows - side * side
    if table.ndim != 2 or rows < 1 or first > 1:
        raise InputError(f"position table of shape {list(table.shape)} is no square grid, with or without a class row")
    square = table[first:].reshape(side, side, -1)
    resized = np.einsum(
        "hi,wj,ijc->hwc", _bicubic(side, height, antialias), _bicubic(side, width, antialias), square, optimize=True
    )
    return np.concatenate([table[:first], resized.reshape(height * width, -1).astype(np.float32)])


def rotary_angles(grid: int, head_width: int, base: float) -> np.ndarray:
    """Angles of DINOv3's rotary positions (arXiv 2508.10104), which any grid has: patch centres lie in −1…1.

    The angle of a coordinate c in frequency i is 2π c / base^(4i/head_width); in a head there are those of the row and
    then those of the column.

    Args:
      grid: patches in a row and in a column.
      head_width: of attention, a multiple of 4.
      base: the longest period, of coordinates; DINOv3's is 100.

    Returns:
      float32 [grid·grid, head_width/2], patches row by row.
    """
    centres = 2 * (np.arange(grid) + 0.5) / grid - 1
    rows, columns = np.meshgrid(centres, centres, indexing="ij")
    places = np.stack([rows, columns], axis=-1).reshape(-1, 2, 1)
    return angles_at(places, head_width, base).reshape(grid * grid, -1).astype(np.float32)


def angles_at(coordinates: Any, head_width: int, base: float) -> Any:
    """Angles of coordinates, [..., 1] of NumPy or of JAX, as `rotary_angles` has them: [..., head_width/4]."""
    return 2 * np.pi * coordinates * base ** -(np.arange(head_width // 4) / (head_width // 4))


def _bicubic(old: int, new: int, antialias: bool) -> np.ndarray:
    """Weights [new, old] of a one-dimensional cubic resize, pixel centres at half integers."""
    if antialias:
        return antialiased(np.arange(new), np.full(new, new), old)
    centre = (np.arange(new)[:, None] + 0.5) * (old / new) - 0.5
    taps = np.floor(centre) + np.arange(-1, 3)
    weights = np.zeros((new, old))
    np.add.at(weights, (np.arange(new)[:, None], np.clip(taps, 0, old - 1).astype(int)), _cubic(taps - centre, -0.75))
    return weights


def antialiased(place: Any, new: Any, old: int) -> Any:
    """Weights of an antialiased cubic resize for single places, each of a size of its own; of NumPy or of JAX.

    Args:
      place: whole numbers [...], from 0 to new − 1.
      new: whole numbers [...], the size to which a row of `old` is resized.
      old: its size.

    Returns:
      floats [..., old] that sum to 1: at a place of a row that keeps its size a single 1.
    """
    scale = old / new[..., None]
    centre = (place[..., None] + 0.5) * scale - 0.5
    weights = _cubic((np.arange(old) - centre) / scale.clip(1), -0.5)
    return weights / weights.sum(axis=-1, keepdims=True)


def _cubic(x: Any, a: float) -> Any:
    """Keys' cubic convolution kernel with parameter `a` (IEEE TASSP 29, 1981)."""
    x = abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return near * (x <= 1) + far * ((x > 1) & (x < 2))
