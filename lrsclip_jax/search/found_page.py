"""What a search found as one HTML page that needs no network: pictures, numbers, and a map of the footprints."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from eval.html.elements import Html, fold, join, paragraph, remark, table
from eval.html.frame import page
from eval.html.galleries import jpeg_uri
from lrsclip_jax.search.footprint_map import Place, footprint_map
from lrsclip_jax.search.hits import Hit, Hits

_HOW = (
    "Percentile: per cent of the index's tiles that score no higher. z: how far a score lies above those of neutral "
    "texts, in standard deviations of texts of things that no image from above shows."
)


def found_page(
    hits: Hits,
    thumbnail: Callable[[int], bytes | None] | None = None,
    scenes: Sequence[tuple[float, float, float, float]] = (),
    heat: Mapping[int, np.ndarray] | None = None,
) -> Html:
    """Returns the page; all text in it is escaped, its policy lets it fetch nothing.

    Args:
      hits: what was found.
      thumbnail: gives the JPEG of a row of the index, or None.
      scenes: boxes for the map, see `footprint_map`.
      heat: pictures with their heat maps by row, uint8 [H, W, 3], which stand in place of thumbnails.
    """
    heat = heat or {}
    lead = f"{len(hits):,} of {hits.tiles:,} tiles of {hits.index_name}. {hits.verdict}"
    notes = join(*(paragraph(f"Note: {note}") for note in hits.notes))
    if not len(hits):
        return page(hits.asked, [("Nothing found", join(paragraph(hits.verdict), notes))])
    pictures = "".join(_item(hit, _picture(hit, thumbnail, heat)) for hit in hits)
    found = Html(f'<ol class="found">\n{pictures}</ol>')
    sections = [("Where", _where(hits, scenes)), ("Tiles", join(notes, found, remark(_HOW)))]
    return page(hits.asked, [*sections, ("Table", fold("All numbers", _numbers(hits)))], lead)


def place_words(hit: Hit) -> str:
    """Returns where a hit is: "47.4888° N, 11.0616° E"."""
    if hit.place is None:
        return "place not known"
    longitude, latitude = hit.place
    north, east = "N" if latitude >= 0 else "S", "E" if longitude >= 0 else "W"
    return f"{abs(latitude):.5f}° {north}, {abs(longitude):.5f}° {east}"


def _where(hits: Hits, scenes: Sequence[tuple[float, float, float, float]]) -> Html:
    places = [
        Place(hit.geometry, hit.rank, f"{hit.rank}: {hit.scene}, {place_words(hit)}")
        for hit in hits
        if hit.geometry is not None
    ]
    if not places:
        return paragraph("None of these tiles has a place on Earth.")
    lost = len(hits) - len(places)
    told = remark(f"{lost:,} of {len(hits):,} tiles have no place on Earth.") if lost else Html("")
    return join(footprint_map(places, scenes), told)


def _item(hit: Hit, picture: str | None) -> str:
    alt = html.escape(f"Tile {hit.rank}: {hit.scene}, {place_words(hit)}")
    shown = f'<img src="{picture}" alt="{alt}" loading="lazy">' if picture else "<p>no picture</p>"
    said = [hit.scene, place_words(hit), hit.date.strftime("%Y-%m-%d") if hit.date else ""]
    lines = "".join(f"<div>{html.escape(line)}</div>" for line in said if line)
    return (
        f'<li id="hit-{hit.rank}">{shown}<div><b>{hit.rank}</b> cosine\xa0{hit.cosine:.4f}, z\xa0{hit.z:.1f}, '
        f"{percentile_words(hit.percentile).replace(' ', chr(0xA0))}</div>{lines}</li>\n"
    )


def _picture(hit: Hit, thumbnail: Callable[[int], bytes | None] | None, heat: Mapping[int, np.ndarray]) -> str | None:
    if hit.row in heat:
        return jpeg_uri(heat[hit.row], 384)
    data = thumbnail(hit.row) if thumbnail else None
    return "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii") if data else None


def percentile_words(value: float) -> str:
    """Never 100.00 for less: 99.9987 needs its digits."""
    digits = 2 if value == 100 or value < 99.99 else 4
    return f"{value:.{digits}f} %"


def _numbers(hits: Hits) -> Html:
    columns = ["rank", "tile", "cosine", "percentile", "z", "place", "window", "m/pixel", "date"]
    rows = []
    for hit in hits:
        r0, r1, c0, c1 = hit.window
        window = f"rows {r0}–{r1}, columns {c0}–{c1}"
        date = hit.date.strftime("%Y-%m-%d %H:%M") if hit.date else None
        numbers = f"{hit.cosine:.5f}", percentile_words(hit.percentile), f"{hit.z:.2f}"
        rows.append([hit.rank, hit.id, *numbers, place_words(hit), window, hit.gsd, date])
    return table(rows, columns)
