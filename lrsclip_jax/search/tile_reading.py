"""Tiles out of scenes: spans of them, read by many threads, as the image tower sees them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import numpy as np
import simplejpeg

from lrsclip_jax.data.band_image import of_pixels
from lrsclip_jax.data.geotiff import imported
from lrsclip_jax.data.preprocessing import Preprocessing, preprocess
from lrsclip_jax.data.rasters import AnyScene
from lrsclip_jax.data.remote import gdal_options
from lrsclip_jax.data.shared_scenes import scene_opener
from lrsclip_jax.errors import InputError
from lrsclip_jax.search.catalogues import Unreadable, unreadable
from lrsclip_jax.search.index_settings import Settings
from lrsclip_jax.search.scene_tiles import TiledScene

SPAN = 16  # tiles that are read as one task
EMPTY = 0.5  # share of its pixels without data above which a tile is left out
_THUMBNAIL, _QUALITY = 128, 80
_AT_ONCE = 1 << 22  # pixels of a row of tiles that are read as one


class Span(NamedTuple):
    """Tiles `start` to `stop` of a scene, by their numbers."""

    scene: TiledScene
    start: int
    stop: int


@dataclass
class ReadSpan:
    """What a span holds.

    Attributes:
      span: which one.
      rows: of tiles.parquet, of tiles that hold enough data.
      pixels: what the image tower is given of them, [S, S, C] each.
      empty: how many others there are.
      fault: why the scene can't be read; then there are no rows.
    """

    span: Span
    rows: list[dict[str, Any]] = field(default_factory=list)
    pixels: list[np.ndarray] = field(default_factory=list)
    empty: int = 0
    fault: Unreadable | None = None


def spans_of(scene: TiledScene, covered: Sequence[tuple[int, int]] = ()) -> Iterator[Span]:
    """Yields the spans of a scene that are not `covered` by ranges of tiles."""
    at = 0
    for start, stop in [*sorted(covered), (len(scene.windows), len(scene.windows))]:
        for begin in range(at, start, SPAN):
            yield Span(scene, begin, min(begin + SPAN, start))
        at = max(at, stop)


def span_reader(settings: Settings, preprocessing: Preprocessing) -> Callable[[Span], ReadSpan]:
    """Returns the function that reads a span; threads may call it. Once a scene is found faulty, it stays so.

    Of a tower that reads bands by name tiles are read twice: as it sees them, and as their thumbnails show them.
    """
    opened = scene_opener(settings.bands)
    of_bands = scene_opener(names=preprocessing.bands, layout=settings.layout) if preprocessing.bands else None
    faulty: dict[str, Unreadable] = {}

    def read(span: Span) -> ReadSpan:
        scene = span.scene
        if scene.name not in faulty:
            try:
                with imported(scene.name).Env(**gdal_options()):
                    scenes = [which(scene.entry.path, scene.reduction) for which in (opened, of_bands) if which]
                    return _read(span, preprocessing, *scenes)
            except (InputError, OSError) as error:
                faulty[scene.name] = unreadable(scene.entry, error)
        return ReadSpan(span, fault=faulty[scene.name])

    return read


def _read(span: Span, preprocessing: Preprocessing, scene: AnyScene, of_bands: AnyScene | None = None) -> ReadSpan:
    found = ReadSpan(span)
    kept = []
    shown = _looks(span, scene)
    shown, seen = (shown, _looks(span, of_bands)) if of_bands else itertools.tee(shown)
    for (tile, pixels, gaps), (_, values, _) in zip(shown, seen, strict=True):
        if pixels is None or values is None or (gaps is not None and gaps.mean() > EMPTY):
            found.empty += 1
            continue
        kept.append(tile)
        found.pixels.append(preprocess(of_pixels(values), preprocessing))
        found.rows.append({"thumbnail": _thumbnail(pixels)})
    if kept:
        for row, rest in zip(found.rows, span.scene.rows(np.array(kept)), strict=True):
            row |= rest
    return found


def _looks(span: Span, scene: AnyScene) -> Iterator[tuple[int, np.ndarray | None, np.ndarray | None]]:
    """Yields the number of each tile, its pixels, and where it has no data; no pixels where none was written.

    Neighbours in a row of tiles are read as one: where they overlap, blocks are decoded once.
    """
    tiled = span.scene
    numbers = range(span.start, span.stop)
    windows = tiled.windows[span.start : span.stop].tolist()
    levels = [tiled.levels[level] for level in tiled.level_of[span.start : span.stop]]
    at = 0
    while at < len(numbers):
        (r0, r1, c0, c1), level = windows[at], levels[at]
        if scene.unwritten(windows[at]):
            yield numbers[at], None, None
            at += 1
            continue
        if level.side != level.pixels:
            yield numbers[at], *scene.look(windows[at], level.pixels, level.pixels)
            at += 1
            continue
        end = at + 1
        while (
            end < len(numbers)
            and levels[end] is level
            and windows[end][0] == r0
            and (windows[end][3] - c0) * level.side <= max(_AT_ONCE, level.side**2)
            and not scene.unwritten(windows[end])
        ):
            end += 1
        c1 = windows[end - 1][3]
        pixels, gaps = scene.look((r0, r1, c0, c1), r1 - r0, c1 - c0)
        for number, (_, _, left, right) in zip(numbers[at:end], windows[at:end], strict=True):
            part = slice(left - c0, right - c0)
            yield number, np.ascontiguousarray(pixels[:, part]), None if gaps is None else gaps[:, part]
        at = end


def _thumbnail(pixels: np.ndarray) -> bytes:
    side = min(_THUMBNAIL, *pixels.shape[:2])
    small = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(small), _QUALITY)
