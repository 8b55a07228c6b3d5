"""The shape of a batch, its texts as arrays: padded, or packed into rows, and its images where these share rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lrsclip_jax.data.batches.image_rows import ImageRows
from lrsclip_jax.data.batches.packing import joined, pack, place
from lrsclip_jax.data.prepared.records import KINDS, NEGATIVE
from lrsclip_jax.errors import InputError

# The ids of each pair's text of a kind, or None; of long and short texts, and of hard negatives where they are wanted.
Texts = Mapping[str, Sequence[Sequence[int] | None]]


@dataclass(frozen=True)
class BatchShape:
    """The shape of a batch.

    Attributes:
      batch_size: pairs of the global batch.
      long_length, short_length: most tokens of a text, which is cut there; without packing also its slots.
      kinds: the texts that the loss uses, hard negatives among them; others are neither packed nor padded.
      row_length: None, or the slots of the rows that all texts of a group share.
      groups: of the global batch, each with rows of its own: the shards of the mesh times the microbatches.
      shifted: the texts whose tokens are moved within the position table (`sentence_draws`).
      turned: whether images are turned on the device (`turns`).
      bands: of an image, whose values are float32; 0: it is RGB, uint8.
      image_keys: whether the batch says which of its images are the same.
      image_features, text_features: numbers of a row of features that the batch has in place of images, or with its
        texts; None: it has none (`saved_features`).
      offloaded: in how many microbatches the images lie in host memory; 0: they lie on the devices.
      image_rows: the rows that images of any shape share in their group; None: every image is a square by itself.
    """

    batch_size: int
    long_length: int
    short_length: int
    kinds: tuple[str, ...] = KINDS
    row_length: int | None = None
    groups: int = 1
    shifted: tuple[str, ...] = ()
    turned: bool = False
    bands: int = 0
    image_keys: bool = False
    image_features: int | None = None
    text_features: int | None = None
    offloaded: int = 0
    image_rows: ImageRows | None = None

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if self.row_length is not None and self.length(kind) > self.row_length:
                raise InputError(
                    f"data.{kind}_length is {self.length(kind)}, but a row has {self.row_length} slots: "
                    "raise data.row_length"
                )

    @property
    def all_kinds(self) -> tuple[str, ...]:
        """The texts of which a batch says whether they are there: long and short ones, and wanted hard negatives."""
        return (*KINDS, NEGATIVE) if NEGATIVE in self.kinds else KINDS

    def length(self, kind: str) -> int:
        return {"long": self.long_length, "short": self.short_length, NEGATIVE: self.short_length}[kind]

    def groups_of(self, rows: np.ndarray) -> Iterator[tuple[int, slice]]:
        """Yields the number of each group that some rows of the global batch are, and which of them."""
        size = self.batch_size // self.groups
        for start in range(0, len(rows), size):
            group = int(rows[start]) // size
            if not np.array_equal(rows[start : start + size], np.arange(group * size, (group + 1) * size)):
                raise ValueError(f"rows {rows[start : start + size]} are no group of {size} pairs")
            yield group, slice(start, start + size)


def padded(texts: Texts, shape: BatchShape, pad: int) -> dict[str, np.ndarray]:
    """Returns the texts of a batch, of the kinds that the loss uses, in a row each, filled up with `pad`."""
    batch, lengths_of = _has(texts), dict(zip(texts, text_lengths(texts).T, strict=True))
    for kind in shape.kinds:
        lengths = lengths_of[kind]
        present = (ids for ids in texts[kind] if ids is not None)
        batch[kind] = np.full((len(lengths), shape.length(kind)), pad, np.int32)
        filled = np.arange(shape.length(kind)) < lengths[:, None]
        batch[kind][filled] = np.fromiter(itertools.chain.from_iterable(present), np.int32)
    return batch


def packed(
    texts: Texts,
    shape: BatchShape,
    rows: np.ndarray,
    lengths: np.ndarray,
    shifts: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Returns the texts of a batch in rows that they share, the same number in every group.

    Args:
      texts: of some of the pairs of a global batch, whole groups of them.
      shape: of the batch.
      rows: int [pairs], which pairs of the global batch they are.
      lengths: int [B, kinds], of the texts of the global batch as they were drawn; they alone decide the number of
        rows.
      shifts: of each kind that `shape.shifted` names, int32 [pairs], as `packing.pack` takes them; None: no kind.
    """
    shifts = shifts or {}
    if shape.row_length is None:
        raise ValueError("a batch without a row length is padded, not packed")
    placed, granted = place(lengths, shape.groups, shape.row_length)
    groups = []
    for group, part in shape.groups_of(rows):
        all_texts = [ids for of_kind in texts.values() for ids in of_kind[part]]
        unmoved = np.zeros(len(rows), np.int32)
        moved = [shifts.get(kind, unmoved)[part] for kind in texts] if shape.shifted else []
        by = np.concatenate(moved) if moved else None
        groups.append(pack(all_texts, placed[group], shape.row_length, granted, by, kinds=[*texts]))
    return joined(groups) | _has(texts)


def packed_images(images: np.ndarray, grids: np.ndarray, shape: BatchShape, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Returns images of any shape in rows that they share, the same number in every group.

    Where these are not all images of the global batch, the shapes of the others are not known: then each group has as
    many rows as images.

    Args:
      images: the patches of some images of a global batch, [b, budget, D], whole groups of them.
      grids: int [b, 2], rows and columns of patches of each.
      shape: of the batch.
      rows: int [b], which images of the global batch they are.
    """
    if shape.image_rows is None:
        raise ValueError("the images of this batch are squares, which are not packed")
    groups, size = len([*shape.groups_of(rows)]), shape.batch_size // shape.groups
    return shape.image_rows.shared([*images], grids, groups, None if groups == shape.groups else size)


def text_lengths(texts: Texts) -> np.ndarray:
    """Returns int64 [pairs, kinds]: how many ids the text of each kind of each pair has, 0 where it has none."""
    return np.asarray([[0 if ids is None else len(ids) for ids in of_kind] for of_kind in texts.values()]).T


def _has(texts: Texts) -> dict[str, np.ndarray]:
    return {f"has_{kind}": np.asarray([ids is not None for ids in of_kind]) for kind, of_kind in texts.items()}
