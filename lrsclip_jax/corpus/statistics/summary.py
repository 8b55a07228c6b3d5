"""Statistics of lengths: mean, median, share above a limit, and the bars of a histogram."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from lrsclip_jax.corpus.statistics.counting import PartStatistics, TextStatistics

CONTEXTS = (77, 248)  # of CLIP, and of Long-CLIP and LRSCLIP
WIDTHS = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # of a bar
BARS = 60
DRAWN = 0.999  # share of the texts that a histogram shows: one text of 10,000 words would hide all others
_NAMED = 3


def mean(lengths: Counter[int]) -> float | None:
    """Returns the mean of {length: texts}, None of nothing."""
    total = lengths.total()
    return sum(length * count for length, count in lengths.items()) / total if total else None


def quantile(lengths: Counter[int], share: float) -> int | None:
    """Returns the least length that at least this share of the texts does not exceed; None of no texts."""
    needed, seen = share * lengths.total(), 0
    for length in sorted(lengths):
        seen += lengths[length]
        if seen >= needed:
            return length
    return None


def above(lengths: Counter[int], limit: int) -> int:
    """Returns how many texts are longer than the limit."""
    return sum(count for length, count in lengths.items() if length > limit)


def bars(series: Mapping[str, Counter[int]]) -> dict[str, tuple[list[int], list[float]]]:
    """Returns edges and heights, in per cent of its texts, of each series of {length: texts}; none is empty.

    Bars are equally wide in all series: bar i holds lengths from edge i up to, but not including, edge i + 1. Texts
    longer than 99.9 % of their series are not drawn, but count among the 100 %.
    """
    ends = {name: (quantile(lengths, DRAWN) or 0) + 1 for name, lengths in series.items()}
    width = next((width for width in WIDTHS if max(ends.values()) <= BARS * width), WIDTHS[-1])
    drawn = {}
    for name, lengths in series.items():
        heights = [0.0] * math.ceil(ends[name] / width)
        for length, count in lengths.items():
            if length < ends[name]:
                heights[length // width] += 100 * count / lengths.total()
        drawn[name] = ([width * edge for edge in range(len(heights) + 1)], heights)
    return drawn


def writers(texts: TextStatistics) -> str:
    """Returns who wrote the texts, the most frequent first; a dash where there are none."""
    ordered = [name for name, _ in texts.writers.most_common()]
    more = f" and {len(ordered) - _NAMED} more" if len(ordered) > _NAMED else ""
    return ", ".join(ordered[:_NAMED]) + more or "–"


def texts_values(texts: TextStatistics) -> dict[str, int | float | None]:
    """Returns the figures of one kind of text by their names, as they stand in the files."""
    return {
        "texts": texts.count,
        "mean_tokens": mean(texts.tokens),
        "median_tokens": quantile(texts.tokens, 0.5),
        "max_tokens": max(texts.tokens, default=None),
        **{f"above_{limit}_tokens": above(texts.tokens, limit) for limit in CONTEXTS},
        "mean_words": mean(texts.words),
    }


def part_values(part: PartStatistics) -> dict[str, int | float | str | None]:
    """Returns the figures of a part in one row: `pairs`, `objects`, and `long_…` and `short_…` of its texts."""
    row: dict[str, int | float | str | None] = {"pairs": part.pairs, "objects": part.objects}
    for kind, texts in part.texts.items():
        row[f"{kind}_source"] = writers(texts)
        row |= {f"{kind}_{name}": value for name, value in texts_values(texts).items()}
    return row
