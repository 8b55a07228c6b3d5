"""Scenes that many threads read: opened once for all of them, a raster read by a handle of each thread's own."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

from lrsclip_jax.data.rasters import AnyScene, Scene, open_bands, open_scene

_HELD = 1 << 28  # pixels of scenes that are held whole
_OPEN = 64  # scenes
_HANDLES = 4  # of a thread


def scene_opener(
    bands: tuple[int, ...] | None = None, names: Sequence[str] = (), layout: Sequence[str] = ()
) -> Callable[[Path | str, float], AnyScene]:
    """Returns the function that opens a scene by its path or address and its reduction, see `rasters.open_scene`.

    With names of bands it opens what `rasters.open_bands` does. The scenes that were opened last are kept, as many as
    fit. The percentiles of a scene are found once.
    """
    lock, here = threading.Lock(), threading.local()
    known: OrderedDict[tuple[Path | str, float], Future[AnyScene]] = OrderedDict()

    def shared(path: Path | str, reduction: float) -> AnyScene:
        with lock:
            future = known.get((path, reduction))
            if mine := future is None:
                future = known[path, reduction] = Future()
        if mine:
            try:
                future.set_result(open_bands(path, names, layout) if names else open_scene(path, bands, reduction))
            except BaseException as error:
                future.set_exception(error)
            with lock:
                _forget(known)
        return future.result()

    def opened(path: Path | str, reduction: float = 1) -> AnyScene:
        handles = here.__dict__.setdefault("handles", OrderedDict())
        if (path, reduction) not in handles:
            found = shared(path, reduction)
            if isinstance(found, Scene):
                return found
            handles[path, reduction] = found.again()
            if len(handles) > _HANDLES:
                handles.popitem(last=False)[1].raster.close()
        scene: AnyScene = handles[path, reduction]
        return scene

    return opened


def _forget(known: OrderedDict[tuple[Path | str, float], Future[AnyScene]]) -> None:
    """Lets go of the scenes that were opened first, where too many are held."""
    open_ones = [name for name, future in known.items() if future.done() and not future.exception()]

    def pixels(name: tuple[Path | str, float]) -> int:
        scene = known[name].result()
        return scene.height * scene.width if isinstance(scene, Scene) else 0

    held = sum(map(pixels, open_ones))
    while len(open_ones) > 1 and (len(open_ones) > _OPEN or held > _HELD):
        held -= pixels(open_ones[0])
        del known[open_ones.pop(0)]  # the handle of a raster closes with its last user
