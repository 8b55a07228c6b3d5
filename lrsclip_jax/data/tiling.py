"""Where tiles lie in a scene: square windows on a grid, at one or several sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from eval import command


class Level(NamedTuple):
    """Tiles of one size.

    Attributes:
      number: from 0, the finest.
      side: of a tile in pixels of the scene.
      pixels: at which it is read; not above `side`.
      step: from a tile to the next, in pixels of the scene.
    """

    number: int
    side: int
    pixels: int
    step: int


def levels_of(height: int, width: int, tile: int, overlap: float, levels: int = 1, reduction: float = 1) -> list[Level]:
    """Returns the sizes of a scene's tiles; each level's tiles are twice as wide as those of the level before.

    Tiles are squares, so that a tower's central crop loses nothing. A scene that is smaller than a tile gives tiles as
    small as its shorter side, and no further level.

    Args:
      height, width: of the scene in pixels.
      tile: side of a tile, in pixels at which it is read.
      overlap: share of its side by which a tile overlaps the next.
      levels: how many sizes, at most.
      reduction: how many pixels of the scene become one, along both sides; at least 1.
    """
    found: list[Level] = []
    for number in range(levels):
        side = min(max(1, round(tile * reduction * 2**number)), height, width)
        if found and side == found[-1].side:
            break
        found.append(Level(number, side, min(tile, side), max(1, round(side * (1 - overlap)))))
    return found


def windows(height: int, width: int, size: int, step: int) -> np.ndarray:
    """Returns the windows (r0, r1, c0, c1) of a scene's tiles, int64 [N, 4], row by row.

    The last tile of a row or column ends at the edge of the scene; a scene that is smaller than `size` gives tiles as
    small as it is.
    """
    rows, columns = (_starts(length, size, step) for length in (height, width))
    r0, c0 = (grid.ravel() for grid in np.meshgrid(rows, columns, indexing="ij"))
    return np.stack([r0, np.minimum(r0 + size, height), c0, np.minimum(c0 + size, width)], axis=1)


def _starts(length: int, size: int, step: int) -> np.ndarray:
    last = max(length - size, 0)
    return np.array([*range(0, last, step), last], np.int64)


def add_options(add: Callable[..., Any], tile: str) -> None:
    """Adds --tile, --overlap and --levels to a command line.

    Args:
      add: `add_argument` of a parser or a group.
      tile: the help of --tile.
    """
    add("--tile", type=command.whole_number(1, 2**14), metavar="N", help=tile)
    overlap = "of neighbouring tiles, as a share of a side (%(default)s)"
    add("--overlap", type=command.number(0, 0.9), metavar="X", default=0.25, help=overlap)
    levels = "sizes of tiles, each twice as wide as the last (%(default)s)"
    add("--levels", type=command.whole_number(1, 16), metavar="N", default=1, help=levels)
