"""The parameters of a search as they stand in an address, and what they mean.

The page keeps the same ones in its own address, so that a search can be sent to someone.
"""

from __future__ import annotations

import math
from datetime import date
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

MOST_TOP = 500
MOST_PARTS = 16  # texts, images or examples of one search
MOST_CORNERS = 500
_CORNERS = "expected corners such as 7.1,50.2;7.3,50.2;7.2,50.4"

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=20_000)]
Key = Annotated[str, StringConstraints(min_length=1, max_length=1_000)]


class Filters(BaseModel):
    """Which tiles a search may find."""

    model_config = ConfigDict(extra="forbid")

    bbox: str | None = Field(
        None, max_length=200, description="west,south,east,north in degrees; west > east crosses the date line"
    )
    within: str | None = Field(
        None, max_length=20_000, description="a polygon: its corners lon,lat;lon,lat;…, at least three"
    )
    since: date | None = Field(None, description="the first day, such as 2024-05-31")
    until: date | None = Field(None, description="the last day")
    scene: list[Key] = Field([], max_length=100, description="scenes by their names, or patterns such as 2024/*.tif")
    top: int = Field(50, ge=1, le=MOST_TOP, description="how many tiles at most")

    @field_validator("within")
    @classmethod
    def _area(cls, value: str | None) -> str | None:
        if value is not None:
            corners_of(value)
        return value


class Search(Filters):
    """A search: texts, images and examples weigh together, within the filters."""

    text: list[Text] = Field([], max_length=MOST_PARTS, description="what to look for, in words")
    image: list[Key] = Field([], max_length=MOST_PARTS, description="keys of images that POST /api/images gave")
    negative: list[Text] = Field(
        [], max_length=MOST_PARTS, alias="not", description="what it should not show, in words"
    )
    like: list[Key] = Field([], max_length=MOST_PARTS, description="ids of tiles: more like these")
    unlike: list[Key] = Field([], max_length=MOST_PARTS, description="ids of tiles: less like these")

    @property
    def asks(self) -> bool:
        """Whether it says what to look for."""
        return bool(self.text or self.image or self.like)


def filters_of(asked: Filters) -> dict[str, Any]:
    """Returns the filters as `Index.search` takes them."""
    return {
        "bbox": asked.bbox,
        "within": {"type": "Polygon", "coordinates": [corners_of(asked.within)]} if asked.within else None,
        "since": asked.since,
        "until": asked.until,
        "scenes": asked.scene,
        "top": asked.top,
    }


def corners_of(text: str) -> list[tuple[float, float]]:
    """Returns the closed ring of a polygon's corners, (lon, lat); ValueError where it is none."""
    corners = [
        tuple(_numbers(part, 2, "expected corners such as 7.1,50.2;7.3,50.2;7.2,50.4")) for part in text.split(";")
    ]
    if not 3 <= len(corners) <= MOST_CORNERS:
        raise ValueError(f"expected from 3 to {MOST_CORNERS} corners")
    ring = [(float(lon), float(lat)) for lon, lat in corners]
    return ring if ring[0] == ring[-1] else [*ring, ring[0]]


def _numbers(text: str, count: int, expected: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(expected) from None
    if len(values) != count or not all(map(math.isfinite, values)):
        raise ValueError(expected)
    return values
