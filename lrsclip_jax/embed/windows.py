"""Scenes cut into windows, each an image of a set, for semantic localisation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from eval import selo
from eval.file_names import spelled
from eval.selo.v2 import anchor_windows, coarse_windows, shuffled
from lrsclip_jax.data.crops import crop_window
from lrsclip_jax.data.images import read_image
from lrsclip_jax.embed.material import Material, Row
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources import Item, Source

STEPS = (256, 512, 768)  # sides in pixels, as the reference code has them


def windows_of(
    source: Source, steps: Sequence[int] = STEPS, reference: bool = False, second_look: bool = False
) -> Material:
    """Returns the windows of every scene of a source, in the order of the scenes, and the source's queries.

    With `second_look` there is also what SeLo v2 may ask for: the coarse windows and all small ones around them, marked
    `look` 2 where the first version lacks them, and the words of each query in other orders, of the kind "shuffled".

    Args:
      source: scenes, whose sizes are known, and queries about them.
      steps: sides of the windows in pixels.
      reference: crop as the reference code does, see `data.crops.crop_window`.

    Raises:
      InputError: a scene is smaller than every window, or a step is no side; for a second look smaller than 512 pixels.
    """
    scenes = {item.id: item for item in source if isinstance(item, Item)}
    images = [row for scene in scenes.values() for row in _rows(scene, steps, second_look)]
    pixels_of = _newest(scenes)

    def read(row: int) -> Image.Image:
        image = images[row]
        return Image.fromarray(crop_window(pixels_of(image["scene"]), image["window"], reference))

    queries = [
        {"text": query.text, "kind": "query", "scene": query.scene, "points": query.points} for query in source.queries
    ]
    if second_look:
        queries += [
            {"text": text, "kind": "shuffled", "query": query, "scene": scene}
            for query, scene in dict.fromkeys((query.text, query.scene) for query in source.queries)
            for text in shuffled(query, seed=0)
        ]
    about = {
        name: {"height": one.height, "width": one.width, "file": spelled(str(one.image))}
        for name, one in scenes.items()
    }
    return Material(source.name, source.split, images, queries, read, about)


def _rows(scene: Item, steps: Sequence[int], second_look: bool) -> Iterable[Row]:
    if scene.height is None or scene.width is None:
        raise ValueError(f"the size of scene {scene.id} is not known")
    try:
        boxes = selo.windows(scene.height, scene.width, tuple(steps)).tolist()
        more = _second_windows(scene.height, scene.width) if second_look else []
    except InputError as error:
        raise InputError(f"{scene.image}: {error}") from None
    known = set(map(tuple, boxes))
    rows = [_window(scene, box) for box in boxes]
    return rows + [_window(scene, box) | {"look": 2} for box in more if tuple(box) not in known]


def _second_windows(height: int, width: int) -> list[list[int]]:
    coarse = coarse_windows(height, width)
    return [*coarse.tolist(), *anchor_windows(coarse, height, width).tolist()]


def _window(scene: Item, box: list[int]) -> Row:
    return {"id": f"{scene.id}/{'_'.join(map(str, box))}", "scene": scene.id, "window": box}


def _newest(scenes: dict[str, Item]) -> Callable[[str], np.ndarray]:
    """Returns a function from a scene's name to its pixels, uint8 [H, W, 3].

    The two scenes that were read last are held: windows come scene by scene, and threads ask for them.
    """
    held: dict[str, np.ndarray] = {}
    lock = threading.Lock()

    def pixels_of(name: str) -> np.ndarray:
        with lock:
            if name not in held:
                path = scenes[name].image
                assert isinstance(path, Path)
                pixels = np.asarray(read_image(path))
                while len(held) > 1:
                    held.pop(next(iter(held)))
                held[name] = pixels
            return held[name]

    return pixels_of
