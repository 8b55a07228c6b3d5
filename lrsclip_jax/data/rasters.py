"""A scene, read window by window as 8-bit RGB: a GeoTIFF larger than memory, or an image held whole."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from lrsclip_jax.data import band_image
from lrsclip_jax.data.blocks import Blocks, blocks_of
from lrsclip_jax.data.geotiff import (
    Bands,
    band_numbers,
    bands_of,
    errors_named,
    fits_memory,
    gdal_agrees,
    imported,
    open_raster,
    open_remote,
    open_with_neighbours,
    pixel_limit,
    tiff_header,
    turned,
)
from lrsclip_jax.data.images import raster_driver, read_image, size_of
from lrsclip_jax.data.stretch import STRETCH, holds_data
from lrsclip_jax.errors import InputError

SURVEYED = 2048  # side of the reduced scene that the percentiles of a vast one are taken from
_GLANCED = 1024  # side of the reduced scene that shows where data may lie
UNREADABLE = "has a place on the map that can't be read"
_STRIP = 1 << 24  # pixels whose validity is read at a time


@dataclass(frozen=True)
class Georeference:
    """Where a scene lies.

    Attributes:
      crs: of rasterio, or None.
      transform: affine, from (column, row) in pixels to map coordinates; with control points the one nearest to them.
      points: ground control points, which place the scene instead of the transform.
    """

    crs: Any
    transform: Any
    points: tuple[Any, ...] = ()


@dataclass(frozen=True, eq=False)
class Scene:
    """An image held whole, uint8 [H, W, 3]; `RasterScene` is one that stays on disk."""

    path: Path
    pixels: np.ndarray = field(repr=False)
    georeference: Georeference | None = None

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    def unwritten(self, window: Sequence[int]) -> bool:
        """Returns False: an image held whole was written."""
        return False

    def read(self, window: np.ndarray) -> np.ndarray:
        """Returns the pixels of a window (r0, r1, c0, c1), uint8 [h, w, 3]."""
        r0, r1, c0, c1 = window
        return self.pixels[r0:r1, c0:c1]

    def overview(self, height: int, width: int) -> np.ndarray:
        """Returns the whole scene at another size, uint8 [height, width, 3]."""
        return cv2.resize(self.pixels, (width, height), interpolation=cv2.INTER_AREA)

    def look(self, window: Sequence[int], height: int, width: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns a window at another size, uint8 [height, width, 3], and None: it has data everywhere."""
        r0, r1, c0, c1 = window
        pixels = self.pixels[r0:r1, c0:c1]
        if pixels.shape[:2] != (height, width):
            pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        return pixels, None

    def missing(self, height: int, width: int) -> np.ndarray | None:
        """Returns None: an image held whole has data everywhere."""
        return None

    def empty(self, windows: np.ndarray) -> np.ndarray:
        """Returns which windows, int64 [N, 4], hold no data, bool [N]: none."""
        return np.zeros(len(windows), bool)


@dataclass(frozen=True, eq=False)
class RasterScene:
    """A TIFF or JPEG 2000 that rasterio reads by windows, to the values that `data.images.read_image` gives.

    Of `open_bands` they are float32 [h, w, bands], those of `data.band_image`.

    Where one is too large for that reader, the percentiles that its values are stretched from are those of the scene
    reduced to 2048 pixels a side.
    """

    path: Path | str
    raster: Any = field(repr=False)
    bands: Bands
    georeference: Georeference | None

    @property
    def height(self) -> int:
        return self.raster.height

    @property
    def width(self) -> int:
        return self.raster.width

    def read(self, window: np.ndarray) -> np.ndarray:
        """Returns the pixels of a window (r0, r1, c0, c1), uint8 [h, w, 3]; InputError where the file is torn."""
        r0, r1, c0, c1 = (int(edge) for edge in window)
        return self._pixels(window=((r0, r1), (c0, c1)))

    def overview(self, height: int, width: int) -> np.ndarray:
        """Returns the whole scene at another size, uint8 [height, width, 3]; InputError where the file is torn."""
        return self._pixels(out_shape=(len(self.bands.numbers), height, width))

    def look(self, window: Sequence[int], height: int, width: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns a window (r0, r1, c0, c1) at a size, and where it holds no data.

        Where the size is smaller than the window, overviews are read if the file has them, and values are averaged.
        A block that was never written holds no data, whether or not the file names a value for that.

        Returns:
          uint8 [height, width, 3] and bool [height, width], or None for data everywhere.

        Raises:
          InputError: the file is torn.
        """
        from rasterio.enums import Resampling

        r0, r1, c0, c1 = (int(edge) for edge in window)
        whole = self._without_gaps()
        values = self._values(
            self.bands.masked or not whole,
            window=((r0, r1), (c0, c1)),
            out_shape=(len(self.bands.numbers), height, width),
            resampling=Resampling.nearest if self.bands.palette is not None else Resampling.average,
        )
        gaps = None if whole else ~holds_data(values)
        if self._blocks:
            rows, columns = (
                (np.arange(n) + 0.5) * (stop - start) / n + start
                for n, start, stop in ((height, r0, r1), (width, c0, c1))
            )
            absent = ~self._blocks.written(rows.astype(int), columns.astype(int))
            gaps = absent if gaps is None else gaps | absent
        return self.bands.pixels(values if self.bands.masked else np.ma.getdata(values)), gaps

    def unwritten(self, window: Sequence[int]) -> bool:
        """Returns whether no block that a window (r0, r1, c0, c1) touches was ever written; nothing is read."""
        r0, r1, c0, c1 = window
        return self._blocks is not None and not self._blocks.any(r0, r1, c0, c1)

    def again(self) -> RasterScene:
        """Returns the scene, opened once more: a thread reads by a handle of its own."""
        other = replace(self, raster=raster_of(self.path))
        other.__dict__["_blocks"] = self._blocks  # the same: thousands of questions to GDAL
        return other

    @cached_property
    def _blocks(self) -> Blocks | None:
        return blocks_of(self.raster, self.bands.numbers)

    def missing(self, height: int, width: int) -> np.ndarray | None:
        """Returns where the scene, at that size, holds no data in any band that is shown: bool [height, width].

        None where it holds data everywhere. No-data values, masks and transparency count, and of floats NaN.
        """
        if self._without_gaps():
            return None
        gaps = np.empty((height, width), bool)
        step = max(1, _STRIP // self.width * height // self.height)
        for start in range(0, height, step):
            stop = min(start + step, height)
            rows = (start * self.height // height, -(-stop * self.height // height))
            gaps[start:stop] = self._gaps((rows, (0, self.width)), (stop - start, width))
        return gaps if gaps.any() else None

    def empty(self, windows: np.ndarray) -> np.ndarray:
        """Returns which windows, int64 [N, 4], hold no data at all: bool [N]."""
        empty = np.zeros(len(windows), bool)
        by, gaps = self._glance
        if gaps is None:
            return empty
        for number, (r0, r1, c0, c1) in enumerate(np.asarray(windows).tolist()):
            seen = gaps[r0 // by : -(-r1 // by), c0 // by : -(-c1 // by)]
            empty[number] = seen.all() and self._gaps(((r0, r1), (c0, c1)), (r1 - r0, c1 - c0)).all()
        return empty

    @cached_property
    def _glance(self) -> tuple[int, np.ndarray | None]:
        """A factor, and where the scene that is smaller by it holds no data."""
        by = -(-max(self.height, self.width) // _GLANCED)
        return by, self.missing(-(-self.height // by), -(-self.width // by))

    def _without_gaps(self) -> bool:
        from rasterio.enums import MaskFlags

        numbers = self.bands.numbers
        whole = all(MaskFlags.all_valid in self.raster.mask_flag_enums[number - 1] for number in numbers)
        return whole and np.dtype(self.raster.dtypes[numbers[0] - 1]).kind != "f"

    def _gaps(self, window: tuple, shape: tuple[int, int]) -> np.ndarray:
        return ~holds_data(self._values(True, window=window, out_shape=(len(self.bands.numbers), *shape)))

    def _pixels(self, **how: Any) -> np.ndarray:
        return self.bands.pixels(self._values(self.bands.masked, **how))

    def _values(self, masked: bool, **how: Any) -> np.ndarray:
        with errors_named(str(self.path)):
            return self.raster.read(list(self.bands.numbers), masked=masked, **how)


AnyScene = Scene | RasterScene


@dataclass(frozen=True)
class Survey:
    """What the header of a scene says.

    Attributes:
      height, width: in pixels.
      georeference: where it lies, None where it doesn't say or rasterio can't tell.
      unplaced: why not, None where the file simply doesn't say.
      tags: of rasterio: the file's own, and those of its domain IMAGERY.
    """

    height: int
    width: int
    georeference: Georeference | None = None
    unplaced: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def survey(path: Path | str) -> Survey:
    """Returns what the header of a scene says, a path or an address; InputError where it can't be read.

    For a photograph, which has no place on the map, it is the size alone.
    """
    if isinstance(path, Path):
        width, height = size_of(path)
        if not raster_driver(path):
            return Survey(height, width)
        imported(str(path))
        place, unplaced, tags = _place_of(path)
        return Survey(height, width, place, unplaced, tags)
    with raster_of(path) as raster:
        return Survey(raster.height, raster.width, *_place_in(raster), _tags(raster))


def raster_of(path: Path | str) -> Any:
    """Opens a raster by its path or its address; InputError where it can't be read."""
    return open_raster(path, str(path)) if isinstance(path, Path) else open_remote(path)


def open_scene(path: Path | str, bands: tuple[int, ...] | None = None, reduction: float = 1) -> AnyScene:
    """Opens a scene: a TIFF or JPEG 2000 by rasterio, anything else, and everything where rasterio is missing, whole.

    Its pixels are those of `data.images.read_image`. A few kinds of TIFF, which GDAL reads otherwise than Pillow (white
    is 0, CMYK, less than eight bits, …), are held whole, too.

    Args:
      path: of a JPEG, PNG, WebP, BMP, JPEG 2000 or (Geo)TIFF; or an address that `data.remote` opens.
      bands: one (grey) or three 1-based band numbers; by default the first three, or the first where there are fewer.
      reduction: by how much it will be reduced: percentiles are those of the reduced scene, which overviews may hold.

    Raises:
      InputError: the file is missing, torn, of another format, no regular file, too large for its format, or lacks a
        band.
    """
    if isinstance(path, str):
        return _remote_scene(path, bands, reduction)
    try:
        driver = raster_driver(path)
    except OSError as error:
        raise InputError(f"{path}: image can't be read ({error.strerror})") from None
    if not driver:
        return Scene(path, np.asarray(read_image(path, bands)))
    try:
        imported(str(path))
    except InputError:
        warnings.warn(
            "rasterio is missing (pip install 'lrsclip_jax[geo]'): the TIFF is read whole, without coordinates",
            stacklevel=2,
        )
        return Scene(path, np.asarray(read_image(path, bands)))
    try:
        raster = open_raster(path, str(path))
    except InputError:
        return Scene(path, np.asarray(read_image(path, bands)))  # Pillow reads some that GDAL doesn't
    return _scene_of(path, raster, bands, reduction)


def open_bands(path: Path | str, bands: Sequence[str], layout: Sequence[str] = ()) -> RasterScene:
    """Opens a TIFF or JPEG 2000 by its path or address, to be read as a tower of these bands sees it.

    `layout` names the bands of a file that does not. InputError where it can't be read or lacks one of them.
    """
    raster = raster_of(path)
    numbers = band_image.band_numbers(raster, bands, layout, str(path))
    place = _place_of(path)[0] if isinstance(path, Path) else _place_in(raster)[0]
    return RasterScene(path, raster, Bands(tuple(numbers), None, None, raw=True), place)


def _scene_of(path: Path, raster: Any, bands: tuple[int, ...] | None, reduction: float) -> AnyScene:
    header = tiff_header(path) if raster.width * raster.height <= pixel_limit() else None
    place, unplaced, _ = _place_of(path)
    if unplaced:
        warnings.warn(f"{path} {unplaced}: its map has no coordinates", stacklevel=3)
    if bands is None and header is not None and not gdal_agrees(header):
        return Scene(path, np.asarray(read_image(path)), place)
    return RasterScene(path, raster, _shown(raster, header, bands, reduction, str(path)), place)


def _remote_scene(url: str, bands: tuple[int, ...] | None, reduction: float) -> RasterScene:
    raster = open_remote(url)
    return RasterScene(url, raster, _shown(raster, None, bands, reduction, url), _place_in(raster)[0])


def _shown(raster: Any, header: Any, bands: tuple[int, ...] | None, reduction: float, name: str) -> Bands:
    numbers = band_numbers(bands, raster.count, name)
    size = tuple(math.ceil(side / reduction) for side in (raster.height, raster.width))
    if not fits_memory(raster, len(numbers)):
        size = tuple(min(side, SURVEYED) for side in size)

    def read(number: int) -> np.ndarray:
        return raster.read(number, masked=True, out_shape=size)

    with errors_named(name):
        return bands_of(raster, header, bands, STRETCH, read, name)


def _place_of(path: Path) -> tuple[Georeference | None, str | None, dict[str, str]]:
    """Where a raster lies, why that can't be told, and its tags."""
    try:
        with open_with_neighbours(path, str(path)) as raster:
            (place, unplaced), tags = _place_in(raster), _tags(raster)
    except Exception:
        return None, UNREADABLE, {}
    try:
        header = tiff_header(path)
    except Image.DecompressionBombError:  # Pillow will not read it, nor turn it
        header = None
    if place and header is not None and turned(header):
        return None, "is turned by its orientation tag", tags
    return place, unplaced, tags


def _place_in(raster: Any) -> tuple[Georeference | None, str | None]:
    from rasterio.transform import from_gcps

    try:
        crs, transform, rational = raster.crs, raster.transform, raster.rpcs
        points, crs_of_points = raster.gcps
        if not transform.is_identity or (crs is not None and not points):
            return Georeference(crs, transform), None
        if points:
            return Georeference(crs_of_points, from_gcps(points), tuple(points)), None
    except Exception:  # a CRS that PROJ doesn't know, points on one line …
        return None, UNREADABLE
    return None, "is placed by rational polynomials" if rational else None


def _tags(raster: Any) -> dict[str, str]:
    return {**raster.tags(), **raster.tags(ns="IMAGERY")}
