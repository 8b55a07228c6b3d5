"""Plots: what is drawn is in the SVG, in the page's own colours, and text from data stays text."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from eval.html.plots import histogram, line_plot, side_by_side, svg, variants_plot


def lines(fragment):
    """Number of vertices of every drawn series, by colour variable."""
    drawn = re.findall(r'<path d="([^"]*)"[^>]*stroke: var\(--series-(\d)\)', fragment)
    return {int(number): len(re.findall(r"[ML] ", path)) for path, number in drawn}


def test_every_series_is_drawn_in_a_colour_of_the_page():
    series = {"one": ([0, 1, 2], [3, 1, 2]), "two": ([0, 2], [0.5, 0.25])}
    fragment = line_plot(series, "step", "loss", "Loss of a run")
    assert lines(fragment) == {1: 3, 2: 2}
    figure = ElementTree.fromstring(fragment)
    texts = ["".join(element.itertext()) for element in figure.iter()]
    for text in ("step", "loss", "Loss of a run", "one", "two"):
        assert text in texts
    assert not re.search(r"#[0-9a-f]{6}|xlink|<style|<metadata| id=\"(figure|axes)", fragment)
    assert 'aria-label="Loss of a run against step: one, two"' in fragment


def test_many_series_stay_apart_by_colour_or_dashes():
    series = {f"run {number}": ([0, 1], [number, number]) for number in range(24)}
    legend = re.findall(r'stroke="(.*?)" stroke-dasharray="(.*?)"', line_plot(series, "step", "loss"))
    assert len(legend) == 24
    assert len(set(legend[:12])) == 12


def test_text_from_data_stays_text():
    series = {"<b>&": ([0, 1], [0, 1]), "$x$": ([0, 1], [1, 0])}
    figure = ElementTree.fromstring(line_plot(series, "a < b & $c$", "50 $", '"<script>"'))
    texts = ["".join(element.itertext()) for element in figure.iter()]
    for text in ("<b>&", "$x$", "a < b & $c$", "50 $", '"<script>"'):
        assert text in texts


def test_gaps_and_lone_points():
    fragment = line_plot({"gap": ([0, 1, 2, 3], [1, 2, float("nan"), 3]), "lone": ([2], [2])}, "step", "loss")
    assert "nan" not in fragment
    assert lines(fragment)[1] == 3
    assert re.search(r"<use [^>]*var\(--series-2\)", fragment)  # the dot's marker
    assert "<svg" in line_plot({"empty": ([], [])}, "step", "loss")
    with pytest.raises(ValueError, match="series 'uneven' has 2 x values and 3 y values"):
        line_plot({"uneven": ([1, 2], [1, 2, 3])}, "step", "loss")


def test_spreads_are_bars_around_the_dots_of_a_curve():
    curve = ([1, 4, 8, 16, 32], [50, 60, 70, 75, 80])
    plain = line_plot({"probe": curve}, "images of each class", "accuracy", ticks=curve[0])
    spread = line_plot({"probe": (*curve, [5, 4, 3, 2, 1])}, "images of each class", "accuracy", ticks=curve[0])
    texts = ["".join(element.itertext()).strip() for element in ElementTree.fromstring(spread).iter()]
    assert all(str(tick) in texts for tick in curve[0])
    assert "2" not in texts and "64" not in texts  # powers of two that are no ticks
    assert lines(plain)[1] == 5
    bars = re.findall(r'<path d="M ([\d.]+) ([\d.]+) \nL \1 ([\d.]+) \n"[^>]*stroke: var\(--series-1\)', spread)
    x, bottom, top = np.array(bars, float).T
    np.testing.assert_allclose((bottom - top) / (bottom - top)[-1], [5, 4, 3, 2, 1], rtol=1e-3)
    np.testing.assert_allclose(np.diff(x) / np.diff(x)[-1], [2, 1, 1, 1], rtol=1e-3)  # a logarithmic axis
    with pytest.raises(ValueError, match="series 'probe' has 5 x values and 1 spread values"):
        line_plot({"probe": (*curve, [1])}, "x", "y")


def test_bars_of_a_histogram():
    fragment = histogram({"long": ([0, 5, 10, 15], [1, 0, 2]), "<short>": ([0, 5], [4])}, "tokens", "texts", "Lengths")
    figure = ElementTree.fromstring(fragment)
    texts = ["".join(element.itertext()) for element in figure.iter()]
    for text in ("tokens", "texts", "Lengths", "long", "<short>"):
        assert text in texts
    assert 'aria-label="Lengths by tokens: long, &lt;short&gt;"' in fragment
    filled = re.findall(r"fill: var\(--series-(\d)\); opacity: 0.18", fragment)
    assert filled == ["1", "2"]
    with pytest.raises(ValueError, match="series 'x' has 2 edges and 2 heights"):
        histogram({"x": ([0, 1], [1, 2])}, "tokens", "texts")


def test_settings_and_output_do_not_depend_on_what_was_drawn_before():
    before = dict(matplotlib.rcParams)
    first, second = (line_plot({"a": ([0, 1], [0, 1])}, "step", "loss") for _ in range(2))
    assert first == second
    assert dict(matplotlib.rcParams) == before


def test_any_figure_becomes_svg_and_stands_beside_others():
    figure = Figure()
    figure.add_subplot().imshow([[0, 1], [1, 0]], cmap="Greys")
    fragment = svg(figure, 'counts of "a" & "b"')
    assert ElementTree.fromstring(fragment).get("aria-label") == 'counts of "a" & "b"'
    assert 'href="data:image/png;base64,' in fragment
    row = ElementTree.fromstring(side_by_side([line_plot({"a": ([0, 1], [0, 1])}, "x", "y")] * 2))
    assert [child.tag for child in row] == ["figure", "figure"]


def test_variants_have_a_place_each_and_a_missing_one_none():
    nan = float("nan")
    series = {"here": ([3, nan, 1], [0.5, nan, nan]), "published": ([nan, 2, nan], [nan] * 3)}
    fragment = variants_plot(["9:1", "8:2", "$x$"], series, "ratio", "ZCRL", "Scores")
    texts = ["".join(element.itertext()) for element in ElementTree.fromstring(fragment).iter()]
    for text in ("9:1", "8:2", "$x$", "ratio", "ZCRL", "Scores", "here", "published"):
        assert text in texts
    assert "nan" not in fragment
    assert len(re.findall(r"<use [^>]*var\(--series-2\)", fragment)) >= 1
    with pytest.raises(ValueError, match="series 'a' has 1 values and 2 spreads for 2 names"):
        variants_plot(["x", "y"], {"a": ([1], [0, 0])}, "", "")


def strips(fragment):
    """(left, right, text) of every strip of a plot."""
    drawn = ElementTree.fromstring(fragment).findall(".//g[@class='strips']/rect")
    return [(float(r.get("x")), float(r.get("x")) + float(r.get("width")), r.findtext("title")) for r in drawn]


def test_a_plot_tells_its_values_to_a_pointer():
    series = {"long": ([0, 10, 40], [1.23456, float("nan"), 3]), "<b>": ([0, 40], [0.5, 0.25])}
    told = strips(line_plot(series, "step", "loss"))
    assert [text for _, _, text in told] == ["step 0: long 1.23456, <b> 0.5", "step 40: long 3, <b> 0.25"]
    (_, middle, _), (start, _, _) = told
    assert middle == pytest.approx(start, abs=0.2)
    assert [text for _, _, text in strips(line_plot({"a": ([1, 2], [3, 4])}, "x", "y"))] == ["x 1: 3", "x 2: 4"]
    bars = strips(histogram({"long": ([0, 5, 10], [1, 2]), "short": ([0, 5], [4])}, "tokens", "texts"))
    assert [text for _, _, text in bars] == ["0 to 5 tokens: long 1, short 4", "5 to 10 tokens: 2"]
    nan = float("nan")
    places = strips(variants_plot(["a", "b"], {"here": ([1, nan], [0.1, nan])}, "", ""))
    assert [text for _, _, text in places] == ["a: 1"]


def test_strips_lie_where_the_values_are_drawn_and_are_not_too_many():
    curve = ([1, 4, 16], [50, 60, 70])
    fragment = line_plot({"probe": curve}, "images", "accuracy", ticks=curve[0])
    (drawn,) = re.findall(r'<path d="([^"]*)"[^>]*stroke: var\(--series-1\)', fragment)
    x = [float(value) for value in re.findall(r"[ML] ([\d.]+)", drawn)]
    for place, (start, end, _) in zip(x, strips(fragment), strict=True):
        assert start < place < end
    np.testing.assert_allclose(strips(fragment)[0][1], (x[0] + x[1]) / 2, atol=0.2)
    many = line_plot({"loss": (range(5000), range(5000))}, "step", "loss")
    assert len(strips(many)) == 80 and strips(many)[-1][2] == "step 4999: 4999"
