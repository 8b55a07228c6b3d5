"""Large annotated scenes, cut into tiles whose boxes are clipped with them."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Container, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image

from eval.checksums import defects, read_checksums, write_checksums_of
from eval.whole import whole
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside, Step
from lrsclip_jax.data.images import size_of
from lrsclip_jax.data.rasters import AnyScene, open_scene
from lrsclip_jax.data.tiling import windows
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.annotations.clipping import clip, visible

STAGE = "tiles"
Window = tuple[int, int, int, int]  # r0, r1, c0, c1, ends exclusive


def cut(
    records: Iterable[CorpusRecord],
    size: int,
    out: str | os.PathLike[str],
    *,
    overlap: int = 0,
    min_visible: float = 0.3,
    quality: int = 92,
) -> Iterator[CorpusRecord | SetAside]:
    """Cuts every image into tiles and yields their records, row by row.

    Args:
      records: of the scenes.
      size: side of a tile in pixels. The last tile of a row or column ends at the edge of the scene; a scene that is
        smaller gives tiles as small as it is.
      out: folder of the tiles, JPEG files in a folder for each scene. Those of a finished scene are not written again,
        unless they were damaged since.
      overlap: of neighbouring tiles, in pixels.
      min_visible: share of its box with which a thing must lie in a tile to be one of the tile's things.
      quality: of the JPEG files.

    A tile is called after its first pixel, "{id}/r{row}_c{column}". It has neither the texts nor the label of its
    scene, nor things without a box: they may be true elsewhere only. A TIFF is read by windows, other scenes whole.
    A scene that can't be read is set aside; tiles before the torn part stay. Raises InputError, at once, for a bad
    option.
    """
    for wrong, message in (
        (size < 1, f"size {size}: a tile has at least a pixel"),
        (not 0 <= overlap < size, f"overlap {overlap}: from 0 to less than the size {size}"),
        (not 0 < min_visible <= 1, f"min_visible {min_visible}: expected a share over 0, up to 1"),
        (not 1 <= quality <= 95, f"quality {quality}: from 1 to 95"),
    ):
        if wrong:
            raise InputError(f"tiles: {message}")
    return _cut(records, size, Path(out).absolute(), overlap, min_visible, quality)


def _cut(
    records: Iterable[CorpusRecord], size: int, out: Path, overlap: int, min_visible: float, quality: int
) -> Iterator[CorpusRecord | SetAside]:
    for record in records:
        folder = _folder(out, record.id)
        kept = _intact(folder)
        made: dict[str, bool] = {}
        for found in _windows_of(record, size, overlap, folder, kept):
            if isinstance(found, SetAside):
                yield found
                made = {}
                continue
            window, file, pixels = found
            if pixels is not None:  # written here, where a full disk ends the stage: it is no fault of the scene
                _write(pixels, file, quality)
            made[file.name] = pixels is not None
            yield _tile(record, window, file, min_visible)
        if any(made.values()):
            write_checksums_of(folder, kept | made.keys())


def _windows_of(
    record: CorpusRecord, size: int, overlap: int, folder: Path, kept: Container[str]
) -> Iterator[tuple[Window, Path, np.ndarray | None] | SetAside]:
    """Yields each window, its file, and its pixels unless the file is kept; at the end why a scene can't be read."""
    try:
        width, height = size_of(record.file)
        if record.width and record.height and (record.width, record.height) != (width, height):
            raise InputError(
                f"{record.image}: {width} × {height} pixels, its annotation is for {record.width} × {record.height}"
            )
        scene: AnyScene | None = None
        for window in windows(height, width, size, size - overlap).tolist():
            file = folder / _name(window)
            pixels = None
            if file.name not in kept:
                scene = scene or open_scene(record.file)
                pixels = scene.read(np.array(window))
            yield window, file, pixels
    except InputError as error:
        yield SetAside(record.id, STAGE, str(error))


def _tile(scene: CorpusRecord, window: Window, file: Path, min_visible: float) -> CorpusRecord:
    r0, r1, c0, c1 = window
    box = (c0, r0, c1, r1)
    near = [thing for thing in scene.things if thing.box and visible(thing.box, box) > 0]
    parts = [clip(thing, box) if thing.box and visible(thing.box, box) >= min_visible else () for thing in near]
    left = parts.count(())
    detail = f"rows {r0} to {r1}, columns {c0} to {c1}" + (f"; mostly outside and left out: {left}" if left else "")
    return replace(
        scene,
        id=f"{scene.id}/r{r0}_c{c0}",
        image=str(file),
        short=(),
        long=(),
        negative=(),
        things=tuple(itertools.chain.from_iterable(parts)),
        label=None,
        width=c1 - c0,
        height=r1 - r0,
        provenance=(*scene.provenance, Step(STAGE, detail=detail)),
    )


def _folder(out: Path, scene: str) -> Path:
    return out / f"{quote(scene, safe='')}.tiles"


def _name(window: Window) -> str:
    """A name for each place and size: what is there under it needs no second look."""
    r0, r1, c0, c1 = window
    return f"r{r0}_c{c0}_{c1 - c0}x{r1 - r0}.jpg"


def _intact(folder: Path) -> set[str]:
    """The names of a finished scene's tiles that are what was written; others are named."""
    try:
        expected = read_checksums(folder)
    except InputError as error:
        print(f"note: {error}; its tiles are made again", file=sys.stderr)
        return set()
    damaged = dict(defects(folder, expected))
    for what in damaged.values():
        print(f"note: {folder}/{what}; it is made again", file=sys.stderr)
    return expected.keys() - damaged.keys()


def _write(pixels: np.ndarray, file: Path, quality: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole(file, durable=False) as partial:
        Image.fromarray(np.ascontiguousarray(pixels)).save(partial, "JPEG", quality=quality)
