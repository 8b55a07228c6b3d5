"""Images of any shape in rows that they share, laid as texts are (`packing`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrsclip_jax.data.batches.packing import Placement, joined, laid, place


@dataclass(frozen=True)
class ImageRows:
    """The rows of an image tower.

    Attributes:
      patch: side of a patch in pixels.
      first: slots of an image before its patches, for its class token and registers.
      length: slots of a row, in which the largest image has room.
    """

    patch: int
    first: int
    length: int

    def shared(
        self, images: Sequence[np.ndarray], grids: np.ndarray, groups: int, rows: int | None = None
    ) -> dict[str, np.ndarray]:
        """Returns images in rows that those of a group share.

        Args:
          images: the patches of each, [at least those of its grid, D], all of one dtype.
          grids: int [B, 2], rows and columns of patches of each image; 0 for none.
          groups: of B/groups consecutive images each.
          rows: of every group; None: one of a few numbers, each of which is a program of its own.

        Returns:
          "patches", [R, length, D], "image_segments" and "image_positions", int32 [R, length], "image_grids", int32 [R,
          length, 2], and "image_span", int32 [B, 2], as `models.native.PackedImages` has them.
        """
        size = len(grids) // groups
        placed, granted = place(self.tokens(grids)[:, None], groups, self.length)
        rows = rows or min(granted, size)  # an image has room in one
        parts = [slice(first, first + size) for first in range(0, len(grids), size)]
        each = zip(placed, parts, strict=True)
        return joined([self._pack(images[part], grids[part], placement, rows) for placement, part in each])

    def tokens(self, grids: np.ndarray) -> np.ndarray:
        """Returns the slots that images of these grids take, int [B]; 0 of none."""
        patches = grids.prod(axis=1)
        return np.where(patches > 0, self.first + patches, 0)

    def _pack(
        self, images: Sequence[np.ndarray], grids: np.ndarray, placement: Placement, rows: int
    ) -> dict[str, np.ndarray]:
        lengths = self.tokens(grids)
        lay = laid(lengths, placement, self.length, rows)
        patches = np.zeros((rows * self.length, images[0].shape[-1]), images[0].dtype)
        for image, (start, length) in zip(images, lay.spans.tolist(), strict=True):
            if length:
                patches[start + self.first : start + length] = image[: length - self.first]
        of_slots = np.ones((rows * self.length, 2), np.int32)
        of_slots[lay.slots] = np.repeat(grids, lengths, axis=0)
        return {
            "patches": patches.reshape(rows, self.length, -1),
            "image_segments": lay.segments,
            "image_positions": lay.positions,
            "image_grids": of_slots.reshape(rows, self.length, 2),
            "image_span": lay.spans,
        }
