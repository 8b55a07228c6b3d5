"""Packing: all texts of a group of pairs laid end to end in rows of one length.

Where both captions of LRS2M are padded to 248, more than two thirds of the slots are padding. Packed rows leave it out;
the text tower gives every text the positions and the view that it would have alone (`lrsclip_jax.models.packed`), so
nothing else changes.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Placement(NamedTuple):
    """Where texts lie: the row of each and its first slot there, int32 [T], and how many rows they take."""

    row: np.ndarray
    start: np.ndarray
    rows: int


def best_fit(lengths: Sequence[int] | np.ndarray, row_length: int) -> Placement:
    """Places texts by best fit, the longest first: each where the least is left over, or in a new row.

    At worst 11/9 of the rows that would do (D. S. Johnson, 1973), and for captions within a per cent or two. A text of
    length 0 takes no slot; the same lengths give the same placement.

    Args:
      lengths: of the texts in tokens, none above `row_length`.
      row_length: slots of a row.
    """
    lengths = np.asarray(lengths, np.int64)
    row, start = np.zeros((2, len(lengths)), np.int32)
    free: list[tuple[int, int]] = []  # (slots left, row), ascending
    rows = 0
    for text in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[text])
        if not length:
            break
        at = bisect.bisect_left(free, (length, 0))
        if at < len(free):
            left, place = free.pop(at)
        else:
            left, place, rows = row_length, rows, rows + 1
        row[text], start[text] = place, row_length - left
        if left > length:
            bisect.insort(free, (left - length, place))
    return Placement(row, start, rows)


def granted_rows(needed: int, pairs: int) -> int:
    """Returns the rows of a group of `pairs` pairs whose texts need `needed`: rounded up, so that few counts occur.

    Each count is a program of its own. As the sum of the lengths scatters with the root of the number of pairs, so do
    the steps grow: a quarter of the root, as a power of two. Three to five counts cover batches of LRS2M's lengths; in
    a group of 128 pairs 3 per cent of the slots stay empty, of 512 one. Of many groups the fullest decides.
    """
    step = 1 << max(math.ceil(math.log2(pairs**0.5 / 4)), 0)
    return max(-(-needed // step), 1) * step


def place(lengths: np.ndarray, groups: int, row_length: int) -> tuple[list[Placement], int]:
    """Places the texts or images of a global batch, group by group, and says how many rows each group is granted.

    Args:
      lengths: int [B, kinds], of the text of each kind of each pair, or [B, 1] of an image; 0 where there is none.
      groups: of B/groups consecutive pairs each.
      row_length: slots of a row.

    Returns:
      For each group the placement of its texts, kind after kind; the rows of every group, the same for all.
    """
    lengths = np.asarray(lengths)
    by_group = lengths.reshape(groups, -1, lengths.shape[1])
    placements = [best_fit(group.T.ravel(), row_length) for group in by_group]
    return placements, granted_rows(max(placement.rows for placement in placements), by_group.shape[1])


def pack(
    texts: Sequence[Sequence[int] | None],
    placement: Placement,
    row_length: int,
    rows: int,
    shifts: np.ndarray | None = None,
    kinds: Sequence[str] = ("long", "short"),
) -> dict[str, np.ndarray]:
    """Returns the texts of one group of P pairs in `rows` rows.

    Args:
      texts: token ids of the pairs' texts, kind after kind, each as long as when it was placed, or None where a pair
        lacks it.
      placement: of these texts, from `best_fit`.
      row_length: slots of a row.
      rows: at least those of the placement.
      shifts: int [kinds·P], by how many positions the tokens of each text but its first are moved; None: none is.
      kinds: of these texts.

    Returns:
      "ids", "segments", "positions": int32 [rows, row_length], and of each kind, "long_span", "short_span": int32
      [P, 2], start and length in the rows·row_length slots (0, 0 for None). With `shifts` also "shifts", int32
      [rows, row_length], to be added to the positions.
    """
    lengths = np.asarray([0 if text is None else len(text) for text in texts])
    lay = laid(lengths, placement, row_length, rows)
    ids = np.zeros(rows * row_length, np.int32)
    ids[lay.slots] = np.fromiter(itertools.chain.from_iterable(text for text in texts if text is not None), np.int32)
    packed = {
        "ids": ids.reshape(rows, row_length),
        "segments": lay.segments,
        "positions": lay.positions,
    } | {f"{kind}_span": span for kind, span in zip(kinds, np.split(lay.spans, len(kinds)), strict=True)}
    if shifts is None:
        return packed
    moved = np.zeros(rows * row_length, np.int32)
    moved[lay.slots] = np.where(lay.positions.ravel()[lay.slots] > 0, np.repeat(shifts, lengths), 0)
    return packed | {"shifts": moved.reshape(rows, row_length)}


def joined(groups: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns the arrays of groups, one after the other."""
    return {key: np.concatenate([group[key] for group in groups]) for key in groups[0]}


class Laid(NamedTuple):
    """What slots hold of texts, or of other runs of tokens, that are placed in rows of N slots.

    Attributes:
      slots: int64 [sum of the lengths], those of each text in turn, counted through all rows.
      segments: int32 [rows, N], which text of its row a slot belongs to, from 1 on; 0 where it is empty.
      positions: int32 [rows, N], of each token in its text.
      spans: int32 [T, 2], start and length of each text in all slots; (0, 0) of no length.
    """

    slots: np.ndarray
    segments: np.ndarray
    positions: np.ndarray
    spans: np.ndarray


def laid(lengths: np.ndarray, placement: Placement, row_length: int, rows: int) -> Laid:
    """Lays texts of these lengths, int [T], in `rows` rows where they were placed."""
    first = np.where(lengths > 0, placement.row * row_length + placement.start, 0)
    position = _within(lengths)
    slots = np.repeat(first, lengths) + position
    flat = np.zeros((2, rows * row_length), np.int32)
    flat[0, slots] = np.repeat(_numbers(placement.row, first, lengths), lengths)
    flat[1, slots] = position
    segments, positions = flat.reshape(2, rows, row_length)
    return Laid(slots, segments, positions, np.stack([first, lengths], axis=1).astype(np.int32))


def _within(lengths: np.ndarray) -> np.ndarray:
    """0 … n - 1 for each length n, one after the other: int64 [sum of the lengths]."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _numbers(row: np.ndarray, first: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Numbers the texts of each row from 1 on in the order of their slots."""
    numbers = np.zeros(len(row), np.int32)
    present = np.nonzero(lengths)[0]
    present = present[np.argsort(first[present])]
    numbers[present] = np.arange(1, len(present) + 1) - np.searchsorted(row[present], row[present])
    return numbers
