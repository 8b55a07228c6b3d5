"""The blocks of a TIFF that were written: a sparse one leaves out those without data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Blocks(NamedTuple):
    """Which blocks of a raster were written.

    Attributes:
      height, width: of a block in pixels.
      there: bool [rows, columns] of blocks.
    """

    height: int
    width: int
    there: np.ndarray

    def written(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Returns whether the pixels of rows, int [R], and columns, int [C], were written: bool [R, C]."""
        return self.there[np.ix_(rows // self.height, columns // self.width)]

    def any(self, r0: int, r1: int, c0: int, c1: int) -> bool:
        """Returns whether a window touches a block that was written."""
        rows = slice(r0 // self.height, -(-r1 // self.height))
        return bool(self.there[rows, c0 // self.width : -(-c1 // self.width)].any())


def blocks_of(raster: Any, numbers: Sequence[int]) -> Blocks | None:
    """Returns the blocks of a raster, opened by rasterio, that hold one of some bands; None where all were written.

    Formats other than TIFF always have all.
    """
    if raster.driver not in ("GTiff", "COG"):
        return None
    height, width = raster.block_shapes[numbers[0] - 1]
    shape = (-(-raster.height // height), -(-raster.width // width))
    together = raster.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE") != "BAND"
    there = np.zeros(shape, bool)
    for row, column in np.ndindex(shape):
        there[row, column] = any(
            raster.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=number)
            for number in (numbers[:1] if together else numbers)
        )
    return None if there.all() else Blocks(height, width, there)
