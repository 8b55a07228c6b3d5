"""Values that a plot tells to a pointer: strips over its axes, each with the values at one place."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

MOST = 80  # strips of a plot; more would swell the page and be too narrow to be hit


def said_at(place: str, values: Mapping[str, float]) -> str:
    """Returns what a strip says: "step 20: loss 1.25, long text 1.5"; a lone series is not named."""
    named = (f"{name} {value:.6g}" if len(values) > 1 else f"{value:.6g}" for name, value in values.items())
    return f"{place}: {', '.join(named)}"


def points(series: Mapping[str, Sequence], xlabel: str) -> dict[float, str]:
    """Returns what to say at each x of curves (name → (x, y, …)); values that are not finite are left out."""
    at: dict[float, dict[str, float]] = {}
    for name, (x, y, *_) in series.items():
        for place, value in zip(x, y, strict=True):
            if np.isfinite(value):
                at.setdefault(float(place), {})[name] = float(value)
    return {place: said_at(f"{xlabel} {place:g}", values) for place, values in at.items()}


def strips(axes: Axes, told: Mapping[float, str]) -> str:
    """Returns SVG that lies over the axes of a figure which is drawn: one strip for each x, as far as the next ones.

    Args:
      axes: the only ones of a figure that was saved as SVG.
      told: what to say at each x, in the coordinates of the axes.
    """
    places = sorted(told)
    if not places:
        return ""
    places = [places[i] for i in np.unique(np.linspace(0, len(places) - 1, MOST).round().astype(int))]
    scale = 72 / axes.figure.dpi  # type: ignore[union-attr]  # an SVG counts in points
    left, bottom, right, top = np.multiply(axes.bbox.extents, scale)
    height = 72 * axes.figure.get_figheight()  # type: ignore[union-attr]
    centres = axes.transData.transform([(place, axes.get_ylim()[0]) for place in places])[:, 0] * scale
    edges = np.clip([left, *(centres[:-1] + centres[1:]) / 2, right], left, right)
    drawn = "".join(
        f'<rect x="{start:.1f}" y="{height - top:.1f}" width="{end - start:.1f}" height="{top - bottom:.1f}">'
        f"<title>{html.escape(told[place])}</title></rect>"
        for place, start, end in zip(places, edges[:-1], edges[1:], strict=True)
    )
    return f'<g class="strips">{drawn}</g>'
