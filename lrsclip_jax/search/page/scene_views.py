"""Views of an archive's scenes: windows at full resolution, and tiles of a web map by rio-tiler.

A scene is asked for by its name in the index; a path or URL comes from the index alone. The colours are those that the
model saw: the same bands, stretched the same way.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lrsclip_jax.data.geotiff import Bands, errors_named, open_raster
from lrsclip_jax.data.rasters import AnyScene, RasterScene, open_scene
from lrsclip_jax.errors import InputError
from lrsclip_jax.search.page.sentences import Refusal, shown

_KNOWN = 512  # scenes whose stretch is remembered
_HELD = 2  # images without tiles inside, such as JPEG, that stay decoded


class SceneViews:
    """Reads the scenes of an index.

    Args:
      scenes: the rows of scenes.parquet by their names.
      bands: that the index was made of; None: the first three.
    """

    def __init__(self, scenes: Mapping[str, Mapping[str, Any]], bands: tuple[int, ...] | None = None):
        self.scenes = scenes
        self._bands = bands
        self._how: dict[str, Bands] = {}
        self._whole: dict[str, AnyScene] = {}
        self._lock = threading.Lock()

    def row(self, name: str) -> Mapping[str, Any]:
        """Returns a scene's row; Refusal where the archive has none of that name."""
        found = self.scenes.get(name)
        if found is None:
            raise Refusal(404, f"The archive has no scene {shown(name)}.")
        return found

    def window(self, name: str, window: tuple[int, int, int, int], height: int, width: int) -> np.ndarray:
        """Returns a window (r0, r1, c0, c1) of a scene at another size, uint8 [height, width, 3]."""
        r0, r1, c0, c1 = window
        with self._opened(name) as (scene, how):
            if not isinstance(scene, RasterScene):
                return cv2.resize(scene.read(np.array(window)), (width, height), interpolation=cv2.INTER_AREA)
            from rasterio.enums import Resampling

            shrinks = height < r1 - r0 and how.palette is None
            values = scene.raster.read(
                list(how.numbers),
                masked=bool(how.limits),
                window=((r0, r1), (c0, c1)),
                out_shape=(len(how.numbers), height, width),
                resampling=Resampling.average if shrinks else Resampling.nearest,
            )
            return how.rgb(values)

    def map_tile(self, name: str, z: int, x: int, y: int, size: int) -> np.ndarray | None:
        """Returns a tile of the web map, RGBA uint8 [size, size, 4]; None where the scene is not in it."""
        from rio_tiler.errors import RioTilerError
        from rio_tiler.io import Reader

        with self._opened(name) as (scene, how), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of scenes without overviews
            if not isinstance(scene, RasterScene):
                return None
            method = "nearest" if how.palette is not None else "bilinear"
            try:
                with Reader(None, dataset=scene.raster, colormap={}) as reader:
                    tile = reader.tile(
                        x, y, z, size, indexes=how.numbers, resampling_method=method, reproject_method=method
                    )
            except RioTilerError:
                return None
            values = tile.array if how.limits else tile.array.data
            if how.palette is not None:
                values = values.astype(scene.raster.dtypes[0])
            opacity = np.asarray(tile.mask, np.uint8)
            return np.dstack([how.rgb(values), opacity])

    @contextmanager
    def _opened(self, name: str) -> Iterator[tuple[AnyScene, Bands]]:
        row = self.row(name)
        try:
            with errors_named(name):
                scene, how = self._open(name, Path(row["source"]))
                yield scene, how
        except InputError:
            raise Refusal(
                410, f"The scene {shown(name)} is no longer there, or torn: bring it back, or run lrsclip index again."
            ) from None

    def _open(self, name: str, path: Path) -> tuple[AnyScene, Bands]:
        with self._lock:
            if name in self._whole:
                return self._whole[name], Bands((1, 2, 3), None, None)
            how = self._how.get(name)
        if how is not None:
            return RasterScene(path, open_raster(path, name), how, None), how
        scene = open_scene(path, self._bands)
        with self._lock:
            if isinstance(scene, RasterScene):
                if len(self._how) >= _KNOWN:
                    self._how.pop(next(iter(self._how)))
                self._how[name] = scene.bands
                return scene, scene.bands
            if len(self._whole) >= _HELD:
                self._whole.pop(next(iter(self._whole)))
            self._whole[name] = scene
        return scene, Bands((1, 2, 3), None, None)
