"""Spectral bands by name and by wavelength: which of a file's bands, or of a model's, is the one that is meant.

A band is written as Sentinel-2 names it (B04), by its common name in STAC (red, nir, swir16), by its wavelength
(665nm), or by any other word that the files use (VV). Bands of one name are the same. Where no name is equal, the
nearest wavelength decides, if it lies within TOLERANCE.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from lrsclip_jax.errors import InputError, nearest

RGB = ("red", "green", "blue")
TOLERANCE = 20.0  # nm: Landsat's bands are as near to Sentinel-2's, B08 and B8A are not
_SENTINEL_2 = {  # central wavelengths in nm, means of Sentinel-2A and 2B (ESA)
    "B01": 442.0,
    "B02": 492.0,
    "B03": 559.0,
    "B04": 665.0,
    "B05": 704.0,
    "B06": 740.0,
    "B07": 781.0,
    "B08": 833.0,
    "B8A": 864.0,
    "B09": 944.0,
    "B10": 1375.0,
    "B11": 1612.0,
    "B12": 2194.0,
}
_COMMON = {  # of STAC's extension eo, as Sentinel-2 has them
    "coastal": "B01",
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "rededge071": "B05",
    "rededge075": "B06",
    "rededge078": "B07",
    "nir": "B08",
    "nir08": "B8A",
    "nir09": "B09",
    "cirrus": "B10",
    "swir16": "B11",
    "swir22": "B12",
}
_WAVELENGTHS = _SENTINEL_2 | {name: _SENTINEL_2[band] for name, band in _COMMON.items()}
_L1C = tuple(_SENTINEL_2)
# Orders of the bands in files that do not name them.
LAYOUTS = {
    "sentinel2-l1c": _L1C,
    "sentinel2-l2a": tuple(band for band in _L1C if band != "B10"),
    "eurosat": (*(band for band in _L1C if band != "B8A"), "B8A"),  # Helber et al.: B8A last
}
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,31}"
_NANOMETRES = re.compile(r"(\d{2,6}(?:\.\d+)?) ?nm\b")
_SHOWN = 20  # bands in a message


class Band(NamedTuple):
    """A band: its name, "" where it has none, and its central wavelength in nm, None where that is not known."""

    name: str
    wavelength: float | None = None


def band(text: str) -> Band:
    """Returns the band that a word, or a file's description of a band, means.

    Of a description such as "B4, central wavelength 665 nm" the first word is the name.
    """
    said = _NANOMETRES.search(text)
    word = re.match(_NAME, text.strip())
    name = _canonical(word[0]) if word else ""
    return Band(name, float(said[1]) if said else _WAVELENGTHS.get(name))


def find(wanted: Sequence[str], there: Sequence[Band]) -> list[int | None]:
    """Returns which of the bands that are there each wanted one is, from 0; None for one that is missing."""
    return [_place(band(name), there) for name in wanted]


def places(wanted: Sequence[str], there: Sequence[Band], where: str, advice: str = "") -> list[int]:
    """Returns what `find` does; InputError, ending in `advice`, for a band that is missing, or that two names mean."""
    found = find(wanted, there)
    names = [each.name or (f"{each.wavelength:g}nm" if each.wavelength else "") for each in there]
    if None in found:
        missing, known = wanted[found.index(None)], [name for name in names if name]
        said = ", ".join(known[:_SHOWN]) + ", …" * (len(known) > _SHOWN) + nearest(missing, known)
        if len(known) < len(names):
            said += f" and {len(names) - len(known)} without a name" if known else f"{len(names)} without a name"
        raise InputError(f"{where}: no band {missing}: it has {said}{advice}")
    certain = [place for place in found if place is not None]
    for number, place in enumerate(certain):
        if place in certain[:number]:
            other = wanted[certain.index(place)]
            raise InputError(f"{where}: {other} and {wanted[number]} are both its band {names[place]}")
    return certain


def layout_of(text: str) -> tuple[str, ...]:
    """Returns the bands that one of LAYOUTS, or a list, names; ArgumentTypeError for anything else."""
    names = LAYOUTS.get(text) or names_of(text)
    if len(names) == 1 and (near := nearest(text, LAYOUTS)):
        raise argparse.ArgumentTypeError(f"unknown layout {text}{near}; known: {', '.join(LAYOUTS)}")
    return names


def names_of(text: str) -> tuple[str, ...]:
    """Returns the bands that a list such as "B04,red,665nm" names; ArgumentTypeError for what can be no name."""
    names = tuple(text.split(","))
    for name in names:
        if not re.fullmatch(_NAME, name):
            raise argparse.ArgumentTypeError(f"{name!a:.40} is no name of a band, such as B04, red or 665nm")
    return names


def add_layout(add: Callable[..., Any]) -> None:
    """Adds --layout to a command line; `add` is `add_argument` of a parser or a group."""
    known = ", ".join(LAYOUTS)
    said = f"names of the files' bands, in their order, where the files do not say: a list, or {known}"
    add("--layout", type=layout_of, metavar="B,B,…", default=(), help=said)


def rgb_numbers(layout: Sequence[str]) -> tuple[int, ...] | None:
    """Returns the numbers, from 1, of red, green and blue in a layout of files; None where there are none."""
    found = find(RGB, [band(name) for name in layout])
    return None if None in found else tuple(place + 1 for place in found if place is not None)


def bands_in(raster: Any, layout: Sequence[str], name: str) -> list[Band]:
    """Returns the bands of a raster, opened by rasterio: as `layout` says, else as its descriptions and tags do.

    Wavelengths are read from GDAL's CENTRAL_WAVELENGTH_UM, from ENVI's `wavelength`, and from descriptions. InputError
    where the layout is of another number of bands.
    """
    if layout:
        if len(layout) != raster.count:
            raise InputError(f"{name}: it has {raster.count} bands, and its layout names {len(layout)}")
        return [band(each) for each in layout]
    found = [band(description or "") for description in raster.descriptions]
    return [
        each._replace(wavelength=_tagged(raster, number) or each.wavelength) for number, each in enumerate(found, 1)
    ]


def _canonical(word: str) -> str:
    """B4, b04 and B04 are one name, and so are Red and red."""
    if numbered := re.fullmatch(r"[Bb]0?(\d{1,2})", word):
        return f"B{int(numbered[1]):02}"
    if word.upper() == "B8A":
        return "B8A"
    return word.lower() if word.lower() in _WAVELENGTHS else word


def _place(wanted: Band, there: Sequence[Band]) -> int | None:
    apart = [
        abs(each.wavelength - wanted.wavelength) if each.wavelength and wanted.wavelength else None for each in there
    ]
    for place, each in enumerate(there):
        if each.name and each.name == wanted.name and (apart[place] or 0) <= TOLERANCE:
            return place
    distance, place = min(((by, place) for place, by in enumerate(apart) if by is not None), default=(math.inf, 0))
    return place if distance <= TOLERANCE else None


def _tagged(raster: Any, number: int) -> float | None:
    tags = raster.tags(number)
    for text, unit in (
        (raster.tags(number, ns="IMAGERY").get("CENTRAL_WAVELENGTH_UM"), "micrometers"),
        (tags.get("wavelength"), tags.get("wavelength_units", "nanometers")),
    ):
        try:
            value = float(text)
        except (TypeError, ValueError):
            continue
        return value * 1000 if unit.lower().startswith(("micro", "um", "µm")) else value
    return None
