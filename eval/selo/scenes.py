"""The scenes of an embedding set: their sizes, their windows, and the rows of the windows' embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from eval import memory
from eval.embeddings import EmbeddingSet
from eval.errors import InputError
from eval.selo.grid import checked_windows

BYTES_A_PIXEL = 10  # that a map takes, about


class SceneWindows(NamedTuple):
    """A scene: its size in pixels, its windows int64 [N, 4], and the rows of their embeddings int64 [N]."""

    name: str
    height: int
    width: int
    windows: np.ndarray
    rows: np.ndarray


def scene_of_query(embedding_set: EmbeddingSet, text_row: int) -> str:
    """Returns the name of the scene that a query is of; InputError where it names none."""
    scene = embedding_set.text_rows[text_row].get("scene")
    if not isinstance(scene, str):
        raise InputError(f"{embedding_set.path}/texts.jsonl, line {text_row + 1}: the query names no scene")
    return scene


def read_scenes(
    embedding_set: EmbeddingSet, names: Sequence[str], steps: Sequence[int] | None, second_look: bool = False
) -> dict[str, SceneWindows]:
    """Returns scenes of a set by name.

    Args:
      embedding_set: its images are windows.
      names: of the scenes.
      steps: sides of the windows to keep, in pixels, or None for all.
      second_look: keep the windows that only a second look may ask for, too.

    Raises:
      InputError: a scene without a size or without windows, or a window that is none, lies outside its scene, or is
        there twice.
    """
    rows: dict[str, list[int]] = {name: [] for name in names}
    for row, image in enumerate(embedding_set.image_rows):
        if image.get("scene") in rows and (second_look or image.get("look") is None):
            rows[image["scene"]].append(row)
    return {name: _scene(embedding_set, name, rows[name], steps) for name in names}


def _scene(embedding_set: EmbeddingSet, name: str, rows: list[int], steps: Sequence[int] | None) -> SceneWindows:
    size = (embedding_set.meta.get("scenes") or {}).get(name)
    if size is None:
        raise InputError(f"{embedding_set.path}/meta.json: 'scenes' has no height and width of {name!r:.80}")
    height, width = size["height"], size["width"]
    memory.check(BYTES_A_PIXEL * height * width, f"{embedding_set.path}/meta.json: scene {name!r:.80}")
    file = embedding_set.path / "images.jsonl"
    for row in rows:
        if embedding_set.image_rows[row].get("window") is None:
            raise InputError(f"{file}, line {row + 1}: no 'window', expected [r0, r1, c0, c1]")
    windows = [embedding_set.image_rows[row]["window"] for row in rows]
    kept = [at for at, (r0, r1, _, _) in enumerate(windows) if steps is None or r1 - r0 in steps]
    if not kept:
        of = f" of {', '.join(map(str, steps))} pixels" if steps else ""
        raise InputError(f"{file}: no windows{of} of the scene {name!r}, which a query is of")
    try:
        checked = checked_windows(np.array(windows, np.int64)[kept], height, width)
    except InputError as error:
        raise InputError(f"{file}, scene {name!r}: {error}") from None
    if len(np.unique(checked, axis=0)) < len(checked):
        raise InputError(f"{file}: the scene {name!r} has a window twice")
    return SceneWindows(name, height, width, checked, np.array(rows, np.int64)[kept])
