"""Confusion matrices: a heat map in the colours of the report page, and the largest mistakes in words."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

from eval.html.elements import Html, escaped

WIDTH = 960  # pixels that a matrix may fill before it scrolls
CELLS = (17, 34)  # pixels of the smallest and largest cells
LETTER = 6.4  # pixels of a letter of a class name, on average
DEEP = 0.3  # share above which the page's ink would be hard to read on a cell


def confusion_matrix(counts: Sequence[Sequence[int]], classes: Sequence[str], title: str = "") -> Html:
    """Returns a heat map of how often each class (row) was taken for each (column), as a share of its row.

    Right answers and mistakes have a colour each, deeper the larger the share (by its square root, so that a rare
    mistake shows). A cell says its share in per cent, and its count to a pointer that rests on it.

    Args:
      counts: int [C, C], true classes down, predicted ones across.
      classes: C names.
      title: of the figure.

    Raises:
      ValueError: the matrix does not fit the classes.
    """
    counts = _checked(counts, classes)
    margin = 12 + LETTER * max(map(len, classes))
    cell = float(np.clip((WIDTH - margin) / len(classes), *CELLS))
    side = margin + cell * len(classes)
    names, cells = [], []
    for row, name in enumerate(classes):
        start = margin + cell * row
        base = start + cell / 2 + 4
        names.append(f'<text x="{margin - 6:.1f}" y="{base:.1f}" text-anchor="end">{escaped(name)}</text>')
        names.append(f'<text transform="translate({base:.1f} {margin - 6:.1f}) rotate(-90)">{escaped(name)}</text>')
        names.append(f'<path d="M{margin:.1f} {start:.1f}H{side:.1f}M{start:.1f} {margin:.1f}V{side:.1f}"/>')
        for column in np.flatnonzero(counts[row]).tolist():
            share = counts[row, column] / counts[row].sum()
            told = f"{name}: {counts[row, column]:,} of {counts[row].sum():,} taken for {classes[column]}"
            x = margin + cell * column
            cells.append(
                f'<g class="{"right" if row == column else "wrong"}{" deep" if share > DEEP else ""}">'
                f'<title>{escaped(told)}</title><rect x="{x:.1f}" y="{start:.1f}" width="{cell:.1f}" '
                f'height="{cell:.1f}" fill-opacity="{share**0.5:.2f}"/>'
                f'<text x="{x + cell / 2:.1f}" y="{base - 1:.1f}" text-anchor="middle">{_per_cent(share)}</text></g>'
            )
    described = html.escape(f"{title or 'Confusion matrix'}: true classes down, predicted classes across")
    heading = f"<figcaption>{escaped(title)}</figcaption>\n" if title else ""
    return Html(
        f'<figure class="matrix">\n{heading}<div tabindex="0">'
        f'<svg width="{side + 1:.0f}" height="{side + 1:.0f}" role="img" aria-label="{described}">'
        f"{''.join(names)}{''.join(cells)}</svg></div>\n</figure>"
    )


def most_confused(counts: Sequence[Sequence[int]], classes: Sequence[str], most: int = 5) -> str:
    """Returns a sentence: the classes taken most often for another one, by share of their images; "" without mistakes.

    Args:
      counts: int [C, C], true classes down, predicted ones across.
      classes: C names.
      most: how many pairs to name.

    Raises:
      ValueError: the matrix does not fit the classes.
    """
    counts = _checked(counts, classes)
    totals = counts.sum(axis=1, keepdims=True)
    mistakes = (counts / np.maximum(totals, 1)) * ~np.eye(len(classes), dtype=bool)
    order = np.argsort(-mistakes, axis=None, kind="stable")[:most]
    pairs = [divmod(int(place), len(classes)) for place in order if mistakes.flat[place] > 0]
    named = (
        f"{classes[true]} for {classes[taken]} ({counts[true, taken]:,} of {totals[true, 0]:,})"
        for true, taken in pairs
    )
    return f"Most often taken: {'; '.join(named)}." if pairs else ""


def _checked(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> np.ndarray:
    counts = np.asarray(counts)
    if not len(classes) or counts.shape != (len(classes), len(classes)):
        raise ValueError(f"a confusion matrix of shape {counts.shape} for {len(classes)} classes")
    return counts


def _per_cent(share: float) -> str:
    return f"{100 * share:.0f}" if share >= 0.005 else "·"
