"""Images of any shape in rows that they share, laid as texts are (`packing`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrsclip_jax.data.batches.packing import Placement, best_fit, granted_rows, laid


@dataclass(frozen=True)
class ImageRows:
    """The rows of an image tower.

    Attributes:
      first: slots of an image before its patches, for its class token and registers.
      length: slots of a row, in which the largest image has room.
    """

    first: int
    length: int

    def place(self, grids: np.ndarray, groups: int) -> tuple[list[Placement], int]:
        """Places images group by group, and says how many rows each group is granted.

        Args:
          grids: int [B, 2], rows and columns of patches of each image; 0 for none.
          groups: of B/groups consecutive images each.
        """
        by_group = self.tokens(grids).reshape(groups, -1)
        placements = [best_fit(lengths, self.length) for lengths in by_group]
        most = max(placement.rows for placement in placements)
        return placements, min(granted_rows(most, by_group.shape[1]), by_group.shape[1])

    def tokens(self, grids: np.ndarray) -> np.ndarray:
        """Returns the slots that images of these grids take, int [B]; 0 of none."""
        patches = grids.prod(axis=1)
        return np.where(patches > 0, self.first + patches, 0)

    def pack(
        self, images: Sequence[np.ndarray], grids: np.ndarray, placement: Placement, rows: int
    ) -> dict[str, np.ndarray]:
        """Returns the images of one group in `rows` rows.

        Args:
          images: the patches of each, [at least those of its grid, D], all of one dtype.
          grids: int [T, 2], of these images.
          placement: of these images.
          rows: at least those of the placement.

        Returns:
          "patches", [rows, length, D], "image_segments" and "image_positions", int32 [rows, length], "image_grids",
          int32 [rows, length, 2], and "image_span", int32 [T, 2], as `models.native.PackedImages` has them.
        """
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
