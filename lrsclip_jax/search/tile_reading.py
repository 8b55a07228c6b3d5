"""Tiles out of scenes: spans of them, read by many threads, as the image tower sees them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from lrsclip_jax.data.geotiff import imported
from lrsclip_jax.data.images import Preprocessing, preprocess
from lrsclip_jax.data.rasters import AnyScene, RasterScene, Scene, open_scene
from lrsclip_jax.data.remote import gdal_options
from lrsclip_jax.errors import InputError
from lrsclip_jax.search.catalogues import Unreadable, unreadable
from lrsclip_jax.search.scene_tiles import TiledScene

SPAN = 16  # tiles that are read as one task
EMPTY = 0.5  # share of its pixels without data above which a tile is left out
_THUMBNAIL, _QUALITY = 128, 80
_AT_ONCE = 1 << 22  # pixels of a row of tiles that are read as one
_HELD = 1 << 28  # pixels of scenes that are held whole
_OPEN = 64  # scenes
_HANDLES = 4  # of a thread


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
      pixels: what the image tower is given of them, uint8 [S, S, 3] each.
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


def span_reader(bands: tuple[int, ...] | None, preprocessing: Preprocessing) -> Callable[[Span], ReadSpan]:
    """Returns the function that reads a span; threads may call it. Once a scene is found faulty, it stays so."""
    opened = _opener(bands)
    faulty: dict[str, Unreadable] = {}

    def read(span: Span) -> ReadSpan:
        scene = span.scene
        if scene.name not in faulty:
            try:
                with imported(scene.name).Env(**gdal_options()):
                    return _read(span, opened(scene), preprocessing)
            except (InputError, OSError) as error:
                faulty[scene.name] = unreadable(scene.entry, error)
        return ReadSpan(span, fault=faulty[scene.name])

    return read


def _read(span: Span, scene: AnyScene, preprocessing: Preprocessing) -> ReadSpan:
    found = ReadSpan(span)
    kept = []
    for tile, pixels, gaps in _looks(span, scene):
        if pixels is None or (gaps is not None and gaps.mean() > EMPTY):
            found.empty += 1
            continue
        kept.append(tile)
        found.pixels.append(preprocess(Image.fromarray(pixels), preprocessing))
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


def _opener(bands: tuple[int, ...] | None) -> Callable[[TiledScene], AnyScene]:
    """Returns the function that opens a scene once for all threads; each reads a raster by a handle of its own."""
    lock, here = threading.Lock(), threading.local()
    known: OrderedDict[str, Future[AnyScene]] = OrderedDict()

    def shared(scene: TiledScene) -> AnyScene:
        with lock:
            future = known.get(scene.name)
            if mine := future is None:
                future = known[scene.name] = Future()
        if mine:
            try:
                future.set_result(open_scene(scene.entry.path, bands, scene.reduction))
            except BaseException as error:
                future.set_exception(error)
            with lock:
                _forget(known)
        return future.result()

    def opened(scene: TiledScene) -> AnyScene:
        handles = here.__dict__.setdefault("handles", OrderedDict())
        if scene.name not in handles:
            found = shared(scene)
            if isinstance(found, Scene):
                return found
            handles[scene.name] = found.again()
            if len(handles) > _HANDLES:
                handles.popitem(last=False)[1].raster.close()
        return handles[scene.name]

    return opened


def _forget(known: OrderedDict[str, Future[AnyScene]]) -> None:
    """Lets go of the scenes that were opened first, where too many are held."""
    done = [name for name, future in known.items() if future.done() and not future.exception()]
    held = sum(
        known[name].result().height * known[name].result().width
        for name in done
        if isinstance(known[name].result(), Scene)
    )
    while len(done) > 1 and (len(done) > _OPEN or held > _HELD):
        found = known.pop(done.pop(0)).result()
        if isinstance(found, Scene):
            held -= found.height * found.width
        elif isinstance(found, RasterScene):
            found.raster.close()
