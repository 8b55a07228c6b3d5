"""A word cloud as inline SVG: every word as near the centre as it fits, the most frequent first.

The height of a word grows with the square root of its count, so that its area tells how frequent it is. The words are
text, in the page's font and colours; `textLength` holds each to the width that it was measured with.
"""

from __future__ import annotations

import functools
import html
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from PIL import ImageFont

from eval.html.elements import Html

WIDTH, HEIGHT = 480, 660
MOST = 120
COLOURS = 5  # of the page's series
SMALLEST = 11.0  # font size, in units of the drawing
_CELL = 3  # boxes lie on a grid of this many units
_GAP = 2.5  # around a word: fonts differ in height
_NARROWER = 0.95  # fonts of screens, against DejaVu Sans
_MEASURED_AT = 1000  # pixels: advances are rounded to whole ones


class Placed(NamedTuple):
    """A word, its font size, the left end of its base line, its width, and the box that nothing else may enter.

    All in units of the drawing, x to the right and y down; the box is x0, y0, x1, y1.
    """

    word: str
    size: float
    x: float
    y: float
    width: float
    box: tuple[int, int, int, int]


def word_cloud(counts: Sequence[tuple[str, int]], width: int = WIDTH, height: int = HEIGHT) -> Html:
    """Returns the cloud of words with their counts, most frequent first; at most `MOST` are drawn.

    Raises:
      ValueError: there is no word.
    """
    if not counts:
        raise ValueError("no words to draw")
    placed = place(counts[:MOST], width, height)
    groups = ""
    for colour in range(COLOURS):
        texts = "".join(map(_text, placed[colour::COLOURS]))
        groups += f'<g style="color:var(--series-{colour + 1})">{texts}</g>\n' if texts else ""
    described = html.escape(f"Word cloud: {', '.join(each.word for each in placed[:10])} are the most frequent")
    return Html(f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{described}">\n{groups}</svg>')


def place(counts: Sequence[tuple[str, int]], width: int, height: int) -> list[Placed]:
    """Returns where words go: in the largest fonts, in steps of 5 %, in which all fit.

    Where not even the smallest font lets all of them in, those that find no room are left out.
    """
    most = counts[0][1]
    weights = [(word, math.sqrt(count / most)) for word, count in counts]
    for largest in _sizes(weights, width, height):
        placed = [*_packed([(word, max(SMALLEST, largest * weight)) for word, weight in weights], width, height)]
        if len(placed) == len(counts):
            break
    return placed


def _sizes(weights: Sequence[tuple[str, float]], width: int, height: int) -> Iterator[float]:
    """Font sizes of the most frequent word, downwards from where the boxes alone would fill the drawing."""
    size = float(width / _extent(weights[0][0])[0] * _MEASURED_AT)
    while size > SMALLEST:
        boxes = (_extent(word) * max(SMALLEST, size * weight) / _MEASURED_AT for word, weight in weights)
        if sum((box[0] + 2 * _GAP) * (box[2] - box[1] + 2 * _GAP) for box in boxes) < 0.9 * width * height:
            yield size
        size *= 0.95
    yield SMALLEST


def _packed(sizes: Sequence[tuple[str, float]], width: int, height: int) -> Iterator[Placed]:
    columns, rows = width // _CELL, height // _CELL
    taken = np.zeros((rows, columns), np.int32)
    for word, size in sizes:
        across, above, below = map(float, _extent(word) * size / _MEASURED_AT)
        w, h = (math.ceil((extent + 2 * _GAP) / _CELL) for extent in (across, below - above))
        corner = _free_corner(taken, w, h)
        if corner is None:
            continue
        row, column = corner
        taken[row : row + h, column : column + w] = 1
        x0, y0, x1, y1 = (_CELL * cell for cell in (column, row, column + w, row + h))
        x, y = (x0 + x1 - across) / 2, (y0 + y1 - above - below) / 2
        yield Placed(word, size, x, y, across, (x0, y0, x1, y1))


def _free_corner(taken: np.ndarray, w: int, h: int) -> tuple[int, int] | None:
    """The upper left cell of the free w × h box that is nearest the centre, in units of width and height."""
    rows, columns = taken.shape
    if w > columns or h > rows:
        return None
    sums = np.pad(taken, ((1, 0), (1, 0))).cumsum(0).cumsum(1)  # how much is taken above and left of a cell
    inside = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
    y, x = np.ogrid[: rows - h + 1, : columns - w + 1]
    away = ((2 * y + h - rows) * columns) ** 2 + ((2 * x + w - columns) * rows) ** 2  # integers: no rounding decides
    best = np.where(inside == 0, away, np.iinfo(away.dtype).max).argmin()
    row, column = np.unravel_index(best, inside.shape)
    return (int(row), int(column)) if inside[row, column] == 0 else None


@functools.lru_cache(1024)
def _extent(word: str) -> np.ndarray:
    """Width, and where the ink ends above and below the base line, at `_MEASURED_AT`: float [3]."""
    _, above, _, below = _font().getbbox(word, anchor="ls")
    return np.array([_NARROWER * _font().getlength(word), above, below])


@functools.cache
def _font() -> ImageFont.FreeTypeFont:
    path = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"
    return ImageFont.truetype(path, _MEASURED_AT, layout_engine=ImageFont.Layout.BASIC)


def _text(placed: Placed) -> str:
    return (
        f'<text x="{placed.x:.1f}" y="{placed.y:.1f}" font-size="{placed.size:.1f}" textLength="{placed.width:.1f}" '
        f'lengthAdjust="spacingAndGlyphs">{html.escape(placed.word)}</text>\n'
    )
