"""Which tiles a search may find: those in an area, of some dates, of some scenes; each as a mask over the index."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import shapely

from lrsclip_jax.errors import InputError, nearest
from lrsclip_jax.search.areas import box_area, read_area
from lrsclip_jax.search.tiles import Tiles


class Filtered(NamedTuple):
    """Which tiles count, bool [N], or None for all; and notes for the person who asked."""

    allowed: np.ndarray | None
    notes: list[str]


def filtered(
    tiles: Tiles,
    bbox: Sequence[float] | str | None = None,
    within: Any = None,
    since: str | date | None = None,
    until: str | date | None = None,
    scenes: str | Iterable[str] = (),
) -> Filtered:
    """Returns the tiles that fulfil every condition given.

    Args:
      tiles: of the index.
      bbox: west, south, east, north; tiles count that reach into it, see `areas.box_area`.
      within: an area; tiles count that reach into it, see `areas.read_area`.
      since, until: first and last moment, day ("2024-05-31"), month or year; both are included. UTC.
      scenes: names of scenes, or patterns such as "2024/*.tif".

    Raises:
      InputError: a condition that is none, or a scene that is not in the index.
    """
    masks, notes = [], []
    areas = ([] if bbox is None else [box_area(bbox)]) + ([] if within is None else [read_area(within)])
    if areas:
        placed = np.isfinite(tiles.boxes[:, 0])
        if lost := int(np.count_nonzero(~placed)):
            notes.append(f"{lost:,} of {len(tiles):,} tiles have no place and are left out")
        masks += [tiles.remembered(area.wkb, partial(_reaching, tiles, area)) for area in areas]
    if since is not None or until is not None:
        masks.append(~np.isnat(tiles.dates))
        if lost := int(np.count_nonzero(np.isnat(tiles.dates))):
            notes.append(f"{lost:,} of {len(tiles):,} tiles have no date and are left out")
        first, last = moment(since, "since"), moment(until, "until", end=True)
        if first is not None and last is not None and first > last:
            raise InputError(f"since {since} is later than until {until}")
        masks += [tiles.dates >= first] if first is not None else []
        masks += [tiles.dates <= last] if last is not None else []
    names = [scenes] if isinstance(scenes, str) else list(scenes)
    if names:
        masks.append(_of_scenes(tiles, names))
    return Filtered(np.logical_and.reduce(masks) if masks else None, notes)


def moment(value: str | date | None, name: str, *, end: bool = False) -> np.datetime64 | None:
    """Returns the first moment of a year, month, day or time in UTC, or with `end` its last; InputError for another."""
    if value is None:
        return None
    if isinstance(value, datetime):
        moved = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        return np.datetime64(moved, "ms")
    text = value.isoformat() if isinstance(value, date) else str(value).strip()
    try:
        if re.fullmatch(r"\d{4}(-\d\d){0,2}", text):
            span = np.datetime64(text)
            return (span + 1).astype("datetime64[ms]") - 1 if end else span.astype("datetime64[ms]")
        if re.match(r"\d{4}-\d\d-\d\d[T ]\d\d", text):
            return moment(datetime.fromisoformat(text), name)
    except ValueError:
        pass
    raise InputError(f"{name} is {text!r:.40}: expected a date such as 2024, 2024-05, 2024-05-31 or 2024-05-31T12:00")


def _reaching(tiles: Tiles, area: shapely.Geometry) -> np.ndarray:
    """Which footprints share more than their edge with an area."""
    west, south, east, north = tiles.boxes.T
    low_x, low_y, high_x, high_y = area.bounds
    rows = np.flatnonzero((west <= high_x) & (east >= low_x) & (south <= high_y) & (north >= low_y))
    shapely.prepare(area)
    boxes = shapely.box(*tiles.boxes[rows].T)
    found = np.zeros(len(tiles), bool)
    inside = shapely.contains(area, boxes)
    found[rows[inside]] = True
    # Only those at the edge are read: a footprint may be smaller than its box.
    rows = rows[~inside & shapely.intersects(area, boxes)]
    shapes = shapely.from_wkb(tiles.take(rows, ["geometry"]).column(0).to_numpy(zero_copy_only=False))
    found[rows] = shapely.intersects(area, shapes) & ~shapely.touches(area, shapes)
    return found


def _of_scenes(tiles: Tiles, names: Sequence[str]) -> np.ndarray:
    known, of_tile = tiles.scenes
    chosen: set[str] = set()
    for name in names:
        found = {name} & set(known) or set(fnmatch.filter(known, name))
        if not found:
            raise InputError(f"no scene {name!r:.200} with tiles in the index{nearest(name, known)}")
        chosen |= found
    return np.array([name in chosen for name in known], bool)[of_tile]
