"""A scene as an index has it: its size, place, date and tiles, surveyed before a pixel is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from lrsclip_jax.data.images import FORMATS
from lrsclip_jax.data.rasters import Survey, survey
from lrsclip_jax.data.tiling import Level, levels_of, windows
from lrsclip_jax.search.catalogues import Entry
from lrsclip_jax.search.index_settings import Settings
from lrsclip_jax.search.places import Place, bounds, footprints, place_of

# Tags of rasters that tell when a scene was taken, the surest first; the last one is often when the file was made.
_DATES = ("ACQUISITIONDATETIME", "ACQUISITION_DATE", "DATE_ACQUIRED", "DATE", "TIFFTAG_DATETIME")
_DATE = re.compile(r"(\d{4})[-:/](\d\d)[-:/](\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?)?")
_ZONE = re.compile(r"([+-])(\d\d):?(\d\d)$")


@dataclass(frozen=True, eq=False)
class TiledScene:
    """A scene and its tiles; they are numbered level by level, row by row.

    Attributes:
      entry: of the catalogue.
      survey: what its header says.
      levels: sizes of its tiles.
      reduction: how many of its pixels become one at level 0.
      date: when it was taken, or None.
      point: longitude and latitude of a photograph, or None.
      note: what can't be done with it: it has no place, or no ground sampling though one is asked for.
    """

    entry: Entry
    survey: Survey
    levels: tuple[Level, ...]
    reduction: float
    date: datetime | None
    point: tuple[float, float] | None
    note: str | None

    @property
    def name(self) -> str:
        return self.entry.scene

    @cached_property
    def place(self) -> Place:
        """Where it lies."""
        return place_of(self.survey)

    @cached_property
    def windows(self) -> np.ndarray:
        """The windows (r0, r1, c0, c1) of all tiles, int64 [N, 4]."""
        size = self.survey.height, self.survey.width
        return np.concatenate([windows(*size, level.side, level.step) for level in self.levels])

    @cached_property
    def level_of(self) -> np.ndarray:
        """The level of each tile, int64 [N]."""
        size = self.survey.height, self.survey.width
        return np.repeat(
            [level.number for level in self.levels],
            [len(windows(*size, level.side, level.step)) for level in self.levels],
        )

    def rows(self, tiles: np.ndarray) -> list[dict[str, Any]]:
        """Returns rows of tiles.parquet, without a thumbnail, for some tiles by their numbers, int64 [n]."""
        chosen, of_level = self.windows[tiles], self.level_of[tiles]
        shapes = [shapely.Point(self.point)] * len(tiles) if self.point else footprints(self.place, chosen)
        metres = self.place.metres
        return [
            {
                "geometry": None if shape is None else shapely.to_wkb(shape),
                "bbox": bbox,
                "id": f"{self.name}#L{level}/r{r0},c{c0}",
                "scene": self.name,
                "level": level,
                "row_start": r0,
                "row_stop": r1,
                "col_start": c0,
                "col_stop": c1,
                "crs": self.place.crs,
                "gsd": metres and metres * self.levels[level].side / self.levels[level].pixels,
                "date": self.date,
            }
            for shape, bbox, level, (r0, r1, c0, c1) in zip(
                shapes, bounds(shapes), of_level.tolist(), chosen.tolist(), strict=True
            )
        ]

    def described(self) -> dict[str, Any]:
        """Returns what scenes.parquet says of the scene itself."""
        georeference = self.survey.georeference
        return {
            "height": self.survey.height,
            "width": self.survey.width,
            "crs": self.place.crs,
            "transform": list(georeference.transform)[:6] if georeference else None,
            "date": self.date,
            "reason": self.note,
        }


def tiled(entry: Entry, settings: Settings) -> TiledScene:
    """Returns a scene with its tiles; InputError where its header can't be read."""
    found = survey(entry.path)
    place = place_of(found)
    point, taken = (None, None) if found.georeference or found.tags else _exif(entry.path)
    note = place.unplaced if point is None else None
    reduction = 1.0
    if settings.gsd and place.metres:
        reduction = max(1.0, settings.gsd / place.metres)
    elif settings.gsd:
        note = f"{note or 'it has no ground sampling'}: it is read at its own pixels, and --gsd does not count"
    levels = levels_of(found.height, found.width, settings.tile, settings.overlap, settings.levels, reduction)
    date = entry.date or taken or _dated(found.tags)
    return TiledScene(entry, found, tuple(levels), reduction, date, point, note)


def _dated(tags: Mapping[str, str]) -> datetime | None:
    found = {name.upper(): text for name, text in tags.items()}
    return next((date for name in _DATES if (date := _moment(found.get(name, "")))), None)


def _moment(text: str) -> datetime | None:
    """A date in the ways of TIFF, EXIF and ISO 8601; UTC unless it tells its zone."""
    found = _DATE.match(text.strip())
    if not found:
        return None
    try:
        year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    if zone := _ZONE.search(text[found.end(3) :]):
        shift = timedelta(hours=int(zone[2]), minutes=int(zone[3]))
        moment = moment - shift if zone[1] == "+" else moment + shift
    return moment


def _exif(path: Path | str) -> tuple[tuple[float, float] | None, datetime | None]:
    """Where and when a photograph was taken, as its EXIF data tells."""
    if not isinstance(path, Path):
        return None, None
    try:
        with Image.open(path, formats=FORMATS) as image:
            exif = image.getexif()
            gps, more = exif.get_ifd(IFD.GPSInfo), exif.get_ifd(IFD.Exif)
    except Exception:  # damaged EXIF data raises anything
        return None, None
    return _position(gps), _taken(gps, more)


def _position(gps: Mapping[int, Any]) -> tuple[float, float] | None:
    try:
        lat, lon = (
            sum(float(part) / 60**power for power, part in enumerate(gps[which]))
            for which in (GPS.GPSLatitude, GPS.GPSLongitude)
        )
        lat = -lat if str(gps.get(GPS.GPSLatitudeRef, "N")).upper().startswith("S") else lat
        lon = -lon if str(gps.get(GPS.GPSLongitudeRef, "E")).upper().startswith("W") else lon
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    # Cameras without reception write 0, 0, in the sea.
    return (lon, lat) if abs(lat) <= 90 and abs(lon) <= 180 and (lat or lon) else None


def _taken(gps: Mapping[int, Any], more: Mapping[int, Any]) -> datetime | None:
    try:
        clock = ":".join(f"{int(part):02}" for part in gps[GPS.GPSTimeStamp])
        if moment := _moment(f"{gps[GPS.GPSDateStamp]} {clock}"):
            return moment
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        pass
    return _moment(f"{more.get(Base.DateTimeOriginal, '')}{more.get(Base.OffsetTimeOriginal, '')}")
