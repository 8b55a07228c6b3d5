"""The median filter of an image made of cells, equal to OpenCV's to the integer.

Slide the filter's window over such an image: as long as it meets the same cells, the number of its pixels at or above
a value is bilinear in its position, hence largest and smallest at the corners of that rectangle of positions. The
median is at least v where this number exceeds half of the window. So the medians at its corners bound all others of a
rectangle, and the few values between them are told apart by a small matrix product each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from eval.selo.cells import expand

MIN_RECTANGLE = 1500  # pixels on average; below, OpenCV's filter, to which all images are alike, is faster


class Span(NamedTuple):
    """Positions of the window along an axis at which it meets the same cells.

    `overlaps`: its pixels in each of them, float32 [positions, cells]; linear in the position.
    """

    positions: slice
    cells: slice
    overlaps: np.ndarray

    @property
    def ends(self) -> tuple[int, int]:
        """The first and the last position."""
        return self.positions.start, self.positions.stop - 1


def median(cells: np.ndarray, rows: np.ndarray, columns: np.ndarray, size: int) -> np.ndarray:
    """Returns the median-filtered image of cells; beyond the border its last pixels are repeated.

    Args:
      cells: the values, uint8 [R, C].
      rows, columns: the edges of the cells in pixels, ascending from 0, int64 [R + 1] and [C + 1].
      size: side of the filter's window in pixels, odd, at most 4,095.

    Returns:
      uint8 [H, W], H and W being the last edges.
    """
    rectangles = len(_starts(rows, size)) * len(_starts(columns, size))
    if rows[-1] * columns[-1] < MIN_RECTANGLE * rectangles:
        return cv2.medianBlur(expand(cells, rows, columns), size)
    return median_by_rectangles(cells, rows, columns, size)


def median_by_rectangles(cells: np.ndarray, rows: np.ndarray, columns: np.ndarray, size: int) -> np.ndarray:
    """Returns the same as `median`; the time grows with the number of rectangles, hardly with that of pixels."""
    in_rows, in_columns = _overlaps(rows, size), _overlaps(columns, size)
    row_spans, column_spans = _spans(_starts(rows, size), in_rows), _spans(_starts(columns, size), in_columns)
    ends = [[end for span in spans for end in span.ends] for spans in (row_spans, column_spans)]
    corners = np.empty([len(positions) for positions in ends], np.uint8)
    _fill(corners, cells, np.unique(cells).tolist(), in_rows[ends[0]], in_columns[ends[1]], size)
    corners = corners.reshape(len(row_spans), 2, len(column_spans), 2)
    lowest, highest = corners.min(axis=(1, 3)).tolist(), corners.max(axis=(1, 3)).tolist()

    filtered = np.empty((rows[-1], columns[-1]), np.uint8)
    for i, row in enumerate(row_spans):
        for j, column in enumerate(column_spans):
            met = cells[row.cells, column.cells]
            between = {value for value in met.ravel().tolist() if lowest[i][j] < value <= highest[i][j]}
            rectangle = filtered[row.positions, column.positions]
            _fill(rectangle, met, [lowest[i][j], *sorted(between)], row.overlaps, column.overlaps, size)
    return filtered


def _fill(medians: np.ndarray, cells: np.ndarray, values: Sequence[int], in_rows, in_columns, size: int) -> None:
    """Sets `medians` [m, n] of windows with these overlaps, [m, R] and [n, C]; all are among `values`, ascending."""
    more_than_half = size * size // 2 + 1
    medians[:] = values[0]
    for value in values[1:]:
        # float32 counts pixels exactly up to 2²⁴.
        at_or_above = in_rows @ (cells >= value).astype(np.float32) @ in_columns.T
        np.copyto(medians, value, where=at_or_above >= more_than_half)


def _starts(edges: np.ndarray, size: int) -> np.ndarray:
    """Returns the positions at which the window's overlap with some cell begins to change at another rate."""
    starts = np.union1d(edges[1:-1] - size // 2, edges[1:-1] + size // 2)
    return np.union1d(starts[(starts > 0) & (starts < edges[-1])], 0)


def _overlaps(edges: np.ndarray, size: int) -> np.ndarray:
    """Returns the window's pixels in each cell, float32 [length, cells]; the outermost go on beyond the border."""
    position = np.arange(edges[-1])[:, None]
    first, last = edges[:-1].copy(), edges[1:].copy()
    first[0] -= size
    last[-1] += size
    pixels = np.minimum(position + size // 2 + 1, last) - np.maximum(position - size // 2, first)
    return np.maximum(pixels, 0).astype(np.float32)


def _spans(starts: np.ndarray, overlaps: np.ndarray) -> list[Span]:
    spans = []
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(overlaps)], strict=True):
        met = np.flatnonzero(overlaps[start] + overlaps[stop - 1])
        positions, cells = slice(start, stop), slice(int(met[0]), int(met[-1]) + 1)
        spans.append(Span(positions, cells, overlaps[positions, cells]))
    return spans
