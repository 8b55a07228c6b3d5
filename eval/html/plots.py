"""Plots as inline SVG in the font and the colours of the report page around them."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eval.html import hover
from eval.html.elements import Html, escaped

DASHES = ("", "6 2", "2 2", "8 2 2 2")
COLOURS = 6  # --series-1 … in report.css
GRID = "#fe0000"  # stands for the page's grid colour until `svg` puts its name there
SALT = "report"  # makes the ids in an SVG depend on its content alone


def line_plot(
    series: Mapping[str, tuple[Sequence[float] | np.ndarray, ...]],
    xlabel: str,
    ylabel: str,
    title: str = "",
    ticks: Sequence[float] = (),
) -> Html:
    """Returns a figure with one line a series, told apart by colour and by dashes.

    Args:
      series: name → (x, y) or (x, y, spread), equally long. Values that are not finite leave a gap; a lone point
        becomes a dot; a spread is drawn as a bar from y - spread to y + spread around a dot.
      xlabel: of the horizontal axis.
      ylabel: of the vertical axis.
      title: of the figure.
      ticks: the only x values there are, all above 0; they are labelled, on a logarithmic axis.

    Raises:
      ValueError: x and y (or spread) of a series differ in length.
    """
    figure, axes = _axes(xlabel, ylabel)
    for number, (name, (x, y, *spread)) in enumerate(series.items()):
        for what, values in (("y", y), *(("spread", each) for each in spread)):
            if len(x) != len(values):
                raise ValueError(f"series {name!r} has {len(x)} x values and {len(values)} {what} values")
        marker = "o" if len(x) == 1 or spread else None
        line: dict[str, Any] = {
            "color": _colour(number),
            "linestyle": _linestyle(number),
            "linewidth": 1.7,
            "marker": marker,
        }
        if spread:
            axes.errorbar(x, y, spread[0], markersize=3.5, capsize=3, elinewidth=1, **line)
        else:
            axes.plot(x, y, **line)
    axes.margins(x=0.03 if ticks else 0.01)
    if ticks:
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    else:
        axes.locator_params(axis="x", nbins=6, integer=True)
    axes.yaxis.set_major_formatter("{x:g}")
    described = f"{title or ylabel} against {xlabel}: {', '.join(series)}"
    return _plot(figure, title, list(series), described, hover.points(series, xlabel))


def histogram(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]], xlabel: str, ylabel: str, title: str = ""
) -> Html:
    """Returns a figure with one outline of bars a series.

    Args:
      series: name → (edges, heights), one edge more than heights.
      xlabel: of the horizontal axis.
      ylabel: of the vertical axis.
      title: of the figure.

    Raises:
      ValueError: a series does not have one edge more than heights.
    """
    figure, axes = _axes(xlabel, ylabel)
    for number, (name, (edges, heights)) in enumerate(series.items()):
        if len(edges) != len(heights) + 1:
            raise ValueError(f"series {name!r} has {len(edges)} edges and {len(heights)} heights")
        axes.stairs(heights, edges, color=_colour(number), alpha=0.18, fill=True)
        axes.stairs(heights, edges, color=_colour(number), linestyle=_linestyle(number), linewidth=1.5)
    axes.margins(x=0.01)
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.yaxis.set_major_formatter("{x:,g}")
    bins: dict[tuple[float, float], dict[str, float]] = {}
    for name, (edges, heights) in series.items():
        for low, high, height in zip(edges[:-1], edges[1:], heights, strict=True):
            bins.setdefault((low, high), {})[name] = height
    told = {
        (low + high) / 2: hover.said_at(f"{low:g} to {high:g} {xlabel}", values) for (low, high), values in bins.items()
    }
    return _plot(figure, title, list(series), f"{title or ylabel} by {xlabel}: {', '.join(series)}", told)


def variants_plot(
    names: Sequence[str],
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str,
    ylabel: str,
    title: str = "",
) -> Html:
    """Returns a figure with a place on the horizontal axis for each of several variants, and one line a series.

    Args:
      names: of the variants, from left to right.
      series: name → (values, spreads), one for each variant. NaN leaves a place empty; a spread is drawn as a bar from
        value - spread to value + spread, NaN as none.
      xlabel: of the horizontal axis.
      ylabel: of the vertical axis.
      title: of the figure.

    Raises:
      ValueError: a series has another number of values than there are names.
    """
    figure, axes = _axes(xlabel, ylabel)
    places = np.arange(len(names))
    for number, (name, (values, spreads)) in enumerate(series.items()):
        if not len(values) == len(spreads) == len(names):
            raise ValueError(
                f"series {name!r} has {len(values)} values and {len(spreads)} spreads for {len(names)} names"
            )
        known = np.isfinite(values)
        bars = np.nan_to_num(np.asarray(spreads, float)[known])
        look: dict[str, Any] = {"color": _colour(number), "linestyle": _linestyle(number), "linewidth": 1.4}
        axes.errorbar(places[known], np.asarray(values)[known], bars, fmt="o", markersize=4, capsize=3, **look)
    axes.set_xlim(-0.5, len(names) - 0.5)
    lean: dict[str, Any] = {"rotation": 30, "ha": "right"} if sum(map(len, names)) > 50 else {}
    axes.set_xticks(places, [_plain(name) for name in names], **lean)
    axes.yaxis.set_major_formatter("{x:g}")
    told = {}
    for place, variant in enumerate(names):
        values = {name: of[place] for name, (of, _) in series.items() if np.isfinite(of[place])}
        if values:
            told[float(place)] = hover.said_at(variant, values)
    return _plot(figure, title, list(series), f"{title or ylabel} of {', '.join(names)}", told)


def side_by_side(figures: Sequence[Html]) -> Html:
    """Returns figures next to each other where there is room, below each other on a phone."""
    return Html('<div class="plots">\n' + "\n".join(figures) + "\n</div>")


def svg(figure: Figure, description: str, told: Mapping[float, str] | None = None) -> Html:
    """Returns a figure as inline SVG. Black becomes the page's ink; white backgrounds are left out.

    Args:
      figure: from matplotlib's object interface.
      description: what a screen reader says.
      told: what to say to a pointer at each x of the figure's only axes.
    """
    for background in (figure.patch, *(axes.patch for axes in figure.axes)):
        background.set_visible(False)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": SALT}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    whole = re.search(r'<svg[^>]*viewBox="([^"]*)"[^>]*>(.*)</svg>', buffer.getvalue(), re.DOTALL)
    assert whole, "matplotlib writes one svg element"
    box, drawing = whole.groups()
    for pattern, replacement in (
        (r"<metadata>.*?</metadata>\s*", ""),
        (r"<defs>\s*<style.*?</style>\s*</defs>\s*", ""),  # would style the whole page
        (r'<g id="[^"]*">', "<g>"),  # the same in every figure
        (r"xlink:href", "href"),
        (r"'[^;\"]*sans-serif", "var(--sans)"),
        (r"#000000", "currentColor"),
        (GRID, "var(--grid)"),
        (r"#fe01(\d\d)", lambda match: f"var(--series-{int(match[1])})"),
    ):
        drawing = re.sub(pattern, replacement, drawing, flags=re.DOTALL)
    drawing += hover.strips(figure.axes[0], told) if told else ""
    return Html(f'<svg viewBox="{box}" role="img" aria-label="{html.escape(description)}">{drawing}</svg>')


def _axes(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, 3.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(_plain(xlabel), fontsize=11)
    axes.set_ylabel(_plain(ylabel), fontsize=11)
    axes.tick_params(labelsize=11)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.locator_params(axis="y", nbins=5)
    return figure, axes


def _plot(figure: Figure, title: str, names: Sequence[str], described: str, told: Mapping[float, str]) -> Html:
    heading = f"<figcaption>{escaped(title)}</figcaption>\n" if title else ""
    return Html(f'<figure class="plot">\n{heading}{_legend(names)}{svg(figure, described, told)}</figure>')


def _legend(names: Sequence[str]) -> str:
    if len(names) < 2:
        return ""
    items = "".join(
        '<li><svg viewBox="0 0 24 8" aria-hidden="true"><path d="M0 4H24" fill="none" stroke-width="2.4" '
        f'stroke="var(--series-{number % COLOURS + 1})" stroke-dasharray="{DASHES[number % len(DASHES)]}"/>'
        f"</svg>{escaped(name)}</li>"
        for number, name in enumerate(names)
    )
    return f'<ul class="legend">{items}</ul>\n'


def _colour(number: int) -> str:
    return f"#fe01{number % COLOURS + 1:02d}"  # stands for --series-1 … until `svg` puts the name there


def _linestyle(number: int) -> tuple[int, tuple[float, ...]]:
    return 0, tuple(float(length) for length in DASHES[number % len(DASHES)].split())


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # or matplotlib would set it as a formula
