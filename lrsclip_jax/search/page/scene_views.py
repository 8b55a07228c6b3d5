"""Views of an archive's scenes: windows at full resolution, and tiles of a web map by rio-tiler.

A scene is asked for by its name in the index; a path or an address comes from the index alone. The colours are those
that the model saw: the same bands, stretched the same way.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION

from lrsclip_jax.data.geotiff import errors_named, imported, tiff_header
from lrsclip_jax.data.rasters import AnyScene, RasterScene, Scene, open_scene
from lrsclip_jax.data.remote import gdal_options, is_address
from lrsclip_jax.errors import InputError
from lrsclip_jax.search.page.sentences import Refusal, shown

_KNOWN = 256  # scenes that stay open, with their stretch
_HELD = 1 << 28  # pixels of scenes that are held whole
_YCBCR = 6  # of PhotometricInterpretation


class SceneViews:
    """Reads the scenes of an index. Threads may share one.

    Args:
      scenes: the rows of scenes.parquet by their names.
      bands: that the index was made of; None: the first three.
      reduction: by how much a scene's tiles are smaller than its pixels, by its name; 1 where it is not there.
    """

    def __init__(
        self,
        scenes: Mapping[str, Mapping[str, Any]],
        bands: tuple[int, ...] | None = None,
        reduction: Mapping[str, float] | None = None,
    ):
        self._scenes, self._bands, self._reduction = scenes, bands, reduction or {}
        self._open: OrderedDict[str, AnyScene] = OrderedDict()
        self._lock = threading.Lock()
        self._opening: dict[str, threading.Lock] = {}

    def row(self, name: str) -> Mapping[str, Any]:
        """Returns a scene's row of scenes.parquet; Refusal where the archive has none of that name."""
        found = self._scenes.get(name)
        if found is None:
            raise Refusal(404, f"The archive has no scene {shown(name)}.")
        return found

    def window(self, name: str, window: tuple[int, int, int, int], height: int, width: int) -> np.ndarray:
        """Returns a window (r0, r1, c0, c1) of a scene at another size, uint8 [height, width, 3]; gaps are black."""
        with self._reading(name) as scene:
            pixels, gaps = scene.look(window, height, width)
            return pixels if gaps is None else np.where(gaps[..., None], np.uint8(0), pixels)

    def map_tile(self, name: str, z: int, x: int, y: int, size: int) -> np.ndarray | None:
        """Returns a tile of the web map, RGBA uint8 [size, size, 4]; None where the scene is not in it."""
        with self._reading(name) as scene, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of scenes without overviews
            return (
                _of_raster(scene, z, x, y, size) if isinstance(scene, RasterScene) else _of_whole(scene, z, x, y, size)
            )

    @contextmanager
    def _reading(self, name: str) -> Iterator[AnyScene]:
        source = self.row(name)["source"]
        try:
            with errors_named(name), imported(name).Env(**gdal_options()):
                shared = self._shared(name, source if is_address(source) else Path(source))
                if isinstance(shared, Scene):
                    yield shared
                    return
                mine = shared.again()
                with contextlib.closing(mine.raster):
                    yield mine
        except (InputError, OSError):
            with self._lock:
                self._open.pop(name, None)
            raise Refusal(
                410, f"The scene {shown(name)} is no longer there, or torn: bring it back, or run lrsclip index again."
            ) from None

    def _shared(self, name: str, source: Path | str) -> AnyScene:
        """The open scene. Its stretch takes seconds, so one thread at a time finds it."""
        with self._lock:
            opening = self._opening.setdefault(name, threading.Lock())
        with opening:
            with self._lock:
                if name in self._open:
                    self._open.move_to_end(name)
                    return self._open[name]
            found = open_scene(source, self._bands or _rgb_of_ycbcr(source), self._reduction.get(name, 1))
            with self._lock:
                self._open[name] = found
                self._forget()
            return found

    def _forget(self) -> None:
        held = sum(scene.height * scene.width for scene in self._open.values() if isinstance(scene, Scene))
        while len(self._open) > 1 and (len(self._open) > _KNOWN or held > _HELD):
            _, oldest = self._open.popitem(last=False)
            held -= oldest.height * oldest.width if isinstance(oldest, Scene) else 0


def _rgb_of_ycbcr(source: Path | str) -> tuple[int, ...] | None:
    """The bands of a TIFF that stores JPEG: with them named GDAL reads windows, where it would be decoded whole."""
    if not isinstance(source, Path):
        return None
    with contextlib.suppress(Exception):  # opening it says what is wrong
        header = tiff_header(source)
        if header is not None and header.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == _YCBCR:
            return 1, 2, 3
    return None


def _of_raster(scene: Any, z: int, x: int, y: int, size: int) -> np.ndarray | None:
    from rio_tiler.errors import RioTilerError
    from rio_tiler.io import Reader

    how = scene.bands
    method = "nearest" if how.palette is not None else "bilinear"
    try:
        with Reader(None, dataset=scene.raster, colormap={}) as reader:
            tile = reader.tile(x, y, z, size, indexes=how.numbers, resampling_method=method, reproject_method=method)
    except RioTilerError:
        return None
    values = tile.array if how.limits else np.asarray(tile.array.data).astype(scene.raster.dtypes[0])
    return np.dstack([how.pixels(values), np.asarray(tile.mask, np.uint8)])


def _of_whole(scene: Any, z: int, x: int, y: int, size: int) -> np.ndarray | None:
    """A tile of an image that is held whole, where it has a place."""
    from morecantile import Tile
    from rasterio.transform import from_bounds
    from rasterio.warp import Resampling, reproject
    from rio_tiler.constants import WEB_MERCATOR_TMS

    if scene.georeference is None or scene.georeference.crs is None:
        return None
    edges = WEB_MERCATOR_TMS.xy_bounds(Tile(x, y, z))
    out = np.zeros((4, size, size), np.uint8)
    pixels = np.concatenate([scene.pixels.transpose(2, 0, 1), np.full((1, scene.height, scene.width), 255, np.uint8)])
    reproject(
        pixels,
        out,
        src_transform=scene.georeference.transform,
        src_crs=scene.georeference.crs,
        dst_transform=from_bounds(*edges, size, size),
        dst_crs=WEB_MERCATOR_TMS.rasterio_crs,
        resampling=Resampling.bilinear,
    )
    return out.transpose(1, 2, 0) if out[3].any() else None
