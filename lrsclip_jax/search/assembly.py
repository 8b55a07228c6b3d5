"""The files of an index, written out of its parts and of what it held before, and put in their places all at once.

They are made in a folder of their own first. From there they move one by one, meta.json leaving first and coming last:
a reader finds the old index, for a moment none, then the new one. A command that is killed in between is finished by
the next.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa

from eval.embeddings import META, write_meta
from eval.reading import read_array
from eval.whole import whole
from lrsclip_jax.errors import InputError
from lrsclip_jax.search import index_parts
from lrsclip_jax.search.index_parts import Slice
from lrsclip_jax.search.index_settings import FOLDER
from lrsclip_jax.search.tiles_table import SCENES, TILES, read_tile_groups, write_scenes, write_tiles

_NEXT = "next"
_IMAGES, _NORMS, _LINES = "images.npy", "image_norms.npy", "images.jsonl"
_AT_ONCE = 4096  # rows of the index before


class SceneRows(NamedTuple):
    """A scene of an index to be: its row of scenes.parquet, and where its tiles come from.

    Attributes:
      row: of scenes.parquet.
      before: rows of the index before, in order over the scenes.
      parts: slices of parts.
    """

    row: Mapping[str, Any]
    before: range = range(0)
    parts: Sequence[Slice] = ()


def assemble(out: Path, scenes: Sequence[SceneRows], meta: Mapping[str, Any], dim: int) -> int:
    """Writes the files of an index, and returns how many tiles it has. The parts are removed.

    Args:
      out: its folder, which may hold the index before.
      scenes: in the order of their names.
      meta: for meta.json; `dim` is added.
      dim: of the embeddings.

    Raises:
      InputError: there is no tile, or a file can't be written; then the index before and the parts are as they were.
    """
    count = sum(len(scene.before) + sum(stop - start for _, start, stop in scene.parts) for scene in scenes)
    if not count:
        reasons = [scene.row["reason"] for scene in scenes if scene.row["reason"]]
        raise InputError(f"{out}: not one tile of {len(scenes):,} scenes{': ' + reasons[0] if reasons else ''}")
    (out / FOLDER).mkdir(exist_ok=True)
    with whole(out / FOLDER / _NEXT) as folder:
        folder.mkdir()
        with (
            open(folder / _IMAGES, "wb") as matrix,
            open(folder / _NORMS, "wb") as norms,
            open(folder / _LINES, "w", encoding="utf-8") as lines,
        ):
            _header(matrix, (count, dim))
            _header(norms, (count,))

            def tables() -> Iterator[pa.Table]:
                for table, rows, lengths in _blocks(out, scenes):
                    matrix.write(rows.tobytes())
                    norms.write(lengths.tobytes())
                    lines.writelines(_lines(table))
                    yield table

            write_tiles(folder / TILES, tables())
        write_scenes(folder / SCENES, [scene.row for scene in scenes])
        write_meta(folder, {**meta, "dim": dim})
    finish(out)
    return count


def finish(out: Path) -> None:
    """Moves the files that `assemble` has written to their places, if it was stopped before it could."""
    folder = out / FOLDER / _NEXT
    if not folder.is_dir():
        return
    try:
        if (folder / META).exists():
            (out / META).unlink(missing_ok=True)
            for name in (_IMAGES, _NORMS, _LINES, TILES, SCENES, META):
                if (folder / name).exists():
                    os.replace(folder / name, out / name)
    except OSError as error:
        raise InputError(f"can't write {out}: {error.strerror or error}; the same command continues") from error
    index_parts.remove(out)


def _blocks(out: Path, scenes: Sequence[SceneRows]) -> Iterator[tuple[pa.Table, np.ndarray, np.ndarray]]:
    """Yields rows of tiles.parquet with their unit embeddings, float32 [n, D], and lengths, float32 [n]."""
    before = _Before(out) if any(scene.before for scene in scenes) else None
    held: dict[Path, pa.Table] = {}
    for scene in scenes:
        if scene.before and before:
            yield from before.rows(scene.before)
        for table, raw in index_parts.read(scene.parts, held):
            rows = raw.astype(np.float64)
            lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
            yield table, (rows / lengths[:, None]).astype(np.float32), lengths.astype(np.float32)


class _Before:
    """The index before, read once from its first row to its last."""

    def __init__(self, out: Path):
        self._images, self._norms = read_array(out / _IMAGES, np.float32, 2), read_array(out / _NORMS, np.float32, 1)
        self._groups = read_tile_groups(out / TILES)
        self._group, self._start = next(self._groups), 0

    def rows(self, chosen: range) -> Iterator[tuple[pa.Table, np.ndarray, np.ndarray]]:
        at = chosen.start
        while at < chosen.stop:
            while at >= self._start + len(self._group):
                self._start += len(self._group)
                self._group = next(self._groups)
            stop = min(chosen.stop, self._start + len(self._group), at + _AT_ONCE)
            table = self._group.slice(at - self._start, stop - at)
            yield table, np.array(self._images[at:stop]), np.array(self._norms[at:stop])
            at = stop


def _lines(table: pa.Table) -> Iterator[str]:
    columns = ("id", "scene", "row_start", "row_stop", "col_start", "col_stop")
    for row in table.select(columns).to_pylist():
        name, scene, *window = row.values()
        yield json.dumps({"id": name, "scene": scene, "window": window}, ensure_ascii=False) + "\n"


def _header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
