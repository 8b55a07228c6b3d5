"""A small map of footprints as SVG: no background, a grid of degrees, a bar of kilometres."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import shapely

from eval.html.elements import Html

WIDTH, HEIGHT = 960, 420  # of the drawing, in its own units
_SMALL = 9  # a footprint narrower than this gets a dot, too
_EARTH = 6371.0088  # km
_NICE = (1, 2, 5)
_TURNS = (10, 20, 30, 45, 60, 90)  # degrees that a turn of the Earth is a multiple of
_APART = 14  # numbers closer than this to a better one are left out


class Place(NamedTuple):
    """A footprint in WGS 84, its number, and what is said of it."""

    shape: shapely.Geometry
    number: int
    words: str


class View(NamedTuple):
    """What the map shows: the longitude and latitude of its middle, and units a degree, east and north."""

    longitude: float
    latitude: float
    east: float
    north: float

    def x(self, longitude: np.ndarray) -> np.ndarray:
        """Returns where longitudes lie; those across the date line lie next to it."""
        return WIDTH / 2 + ((longitude - self.longitude + 180) % 360 - 180) * self.east

    def y(self, latitude: np.ndarray) -> np.ndarray:
        """Returns where latitudes lie."""
        return HEIGHT / 2 - (latitude - self.latitude) * self.north


def footprint_map(places: Sequence[Place], scenes: Sequence[tuple[float, float, float, float]] = ()) -> Html:
    """Returns a map of places, each a link to #hit-NUMBER, best last, so that it lies on top.

    Args:
      places: at least one.
      scenes: boxes to draw faintly below them: west, south, east, north; west above east across the date line.
    """
    view = _view(places)
    drawn = [_frame(view)]
    for west, south, east, north in scenes:
        turn = 360 if west > east else 0
        ring = np.array([[west, south], [east + turn, south], [east + turn, north], [west, north]])
        drawn.append(f'<path class="scene" d="{_path(ring, view)}"/>')
    drawn += [_place(place, view, numbered) for place, numbered in reversed(_numbered(places, view))]
    label = html.escape(f"Map of {len(places)} places")
    return Html(
        f'<figure class="places"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">\n'
        + "\n".join(drawn)
        + "\n</svg></figure>"
    )


def _view(places: Sequence[Place]) -> View:
    corners = np.concatenate([shapely.get_coordinates(place.shape) for place in places])
    middle = _middle(corners[:, 0])
    offsets = (corners[:, 0] - middle + 180) % 360 - 180
    low, high = float(corners[:, 1].min()), float(corners[:, 1].max())
    latitude = (low + high) / 2
    shrink = max(math.cos(math.radians(latitude)), 0.05)
    wide, tall = max(float(np.ptp(offsets)), 1e-6) * shrink, max(high - low, 1e-6)
    north = 0.8 * min(WIDTH / wide, HEIGHT / tall)
    return View(middle + float(offsets.min() + offsets.max()) / 2, latitude, north * shrink, north)


def _middle(longitudes: np.ndarray) -> float:
    """The longitude opposite to the widest gap between places."""
    ranked = np.unique(np.mod(longitudes, 360))
    gaps = np.diff(ranked, append=ranked[0] + 360)
    widest = int(gaps.argmax())
    return float(ranked[widest] + gaps[widest] / 2 + 180)


def _numbered(places: Sequence[Place], view: View) -> list[tuple[Place, bool]]:
    """Places with whether there is room for their numbers, which are given to the first."""
    taken = np.empty((0, 2))
    found = []
    for place in places:
        corners = shapely.get_coordinates(place.shape)
        spot = np.array([[view.x(corners[:, 0]).mean(), view.y(corners[:, 1]).mean()]])
        free = bool((np.abs(taken - spot).max(axis=1) > _APART).all())
        taken = np.concatenate([taken, spot]) if free else taken
        found.append((place, free))
    return found


def _place(place: Place, view: View, numbered: bool) -> str:
    parts = shapely.get_parts(place.shape)
    shapes = [part for part in parts if part.geom_type == "Polygon"]
    d = " ".join(_path(shapely.get_coordinates(part.exterior), view) for part in shapes)
    corners = shapely.get_coordinates(place.shape)
    xs, ys = view.x(corners[:, 0]), view.y(corners[:, 1])
    x, y = (xs.min() + xs.max()) / 2, (ys.min() + ys.max()) / 2
    dot = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>' if not shapes or np.ptp(xs) < _SMALL else ""
    number = f'<text x="{x:.1f}" y="{y - 7 if dot else y + 4:.1f}">{place.number}</text>' if numbered else ""
    title = f"<title>{html.escape(place.words)}</title>"
    return f'<a href="#hit-{place.number}">{title}' + (f'<path d="{d}"/>' if d else "") + f"{dot}{number}</a>"


def _path(ring: np.ndarray, view: View) -> str:
    xs, ys = view.x(ring[:, 0]), view.y(ring[:, 1])
    xs = xs[0] + (xs - xs[0] + 180 * view.east) % (360 * view.east) - 180 * view.east  # no corner on the other side
    return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True)) + "Z"


def _frame(view: View) -> str:
    """Lines of whole degrees or parts of them, with what they are, and the bar."""
    lines = []
    least = 120 / min(view.east, view.north)
    step = _nice(least) if least <= 5 else next((turn for turn in _TURNS if turn >= least), _TURNS[-1])
    digits = max(0, -math.floor(math.log10(step)))
    for number in _steps(view.longitude, min(WIDTH / 2 / view.east, 180), step):
        x = WIDTH / 2 + (number - view.longitude) * view.east
        said = _degrees((number + 180) % 360 - 180, digits, "E", "W")
        lines.append(
            f'<path class="grid" d="M{x:.1f},0V{HEIGHT}"/>'
            f'<text class="grid" x="{x + 3:.1f}" y="2" dy=".9em">{said if x < WIDTH - 60 else ""}</text>'
        )
    for number in _steps(view.latitude, HEIGHT / 2 / view.north, step):
        if abs(number) > 90:
            continue
        y = HEIGHT / 2 - (number - view.latitude) * view.north
        said = _degrees(number, digits, "N", "S")
        lines.append(
            f'<path class="grid" d="M0,{y:.1f}H{WIDTH}"/><text class="grid" x="3" y="{y - 3:.1f}">{said}</text>'
        )
    per_km = view.north / math.radians(_EARTH)
    length = _nice(100 / per_km)
    if length <= 2000:  # on a map of the world no bar holds
        y, right = HEIGHT - 12, WIDTH - 12
        said = f"{length:g} km" if length >= 1 else f"{length * 1000:g} m"
        lines.append(
            f'<path class="bar" d="M{right - length * per_km:.1f},{y}H{right}"/>'
            f'<text class="grid end" x="{right}" y="{y - 5}">{said}</text>'
        )
    return "\n".join(lines)


def _steps(middle: float, half: float, step: float) -> list[float]:
    first, last = math.ceil((middle - half) / step), math.floor((middle + half) / step)
    return [number * step for number in range(first, last + 1)]


def _nice(least: float) -> float:
    """The smallest of 1, 2, 5, 10, 20 … times a power of ten that is at least `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(nice * power for nice in (*_NICE, 10) if nice * power >= least * (1 - 1e-9))


def _degrees(value: float, digits: int, positive: str, negative: str) -> str:
    rounded = round(value, digits)
    side = "" if abs(rounded) in (0, 180) else positive if rounded > 0 else negative
    return f"{abs(rounded):.{digits}f}°{side}"
