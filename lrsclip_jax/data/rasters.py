"""A scene, read window by window as 8-bit RGB: a GeoTIFF larger than memory, or an image held whole."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lrsclip_jax.data.images import read_image
from lrsclip_jax.errors import InputError

SURVEYED = 2048  # side of the reduced scene that its percentiles are taken from
STRETCH = (2.0, 98.0)  # those of `data.images.read_image`


@dataclass(frozen=True)
class Georeference:
    """crs: of rasterio, or None; transform: affine, from (column, row) in pixels to map coordinates."""

    crs: Any
    transform: Any


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

    def read(self, window: np.ndarray) -> np.ndarray:
        """Returns the pixels of a window (r0, r1, c0, c1), uint8 [h, w, 3]."""
        r0, r1, c0, c1 = window
        return self.pixels[r0:r1, c0:c1]

    def overview(self, height: int, width: int) -> np.ndarray:
        """Returns the whole scene at another size, uint8 [height, width, 3]."""
        return cv2.resize(self.pixels, (width, height), interpolation=cv2.INTER_AREA)


@dataclass(frozen=True, eq=False)
class RasterScene:
    """A TIFF that rasterio reads by windows.

    8-bit values are taken as they are, a palette's colours looked up. Others are stretched, each band from its own
    percentiles 2 and 98 of the whole scene to 0 … 255, so that all windows speak one language; pixels that are
    no-data, NaN or infinite become 0. The percentiles are those of the scene reduced to 2048 pixels a side (GDAL takes
    its overviews, where the file has some, and else reads through it once), which is what `data.images.read_image`
    gives for a smaller one.
    """

    path: Path
    raster: Any = field(repr=False)
    bands: tuple[int, ...]
    limits: tuple[tuple[float, float], ...] | None  # lowest and highest value of each band; None: taken as they are
    palette: np.ndarray | None = field(repr=False)  # uint8 [256, 3]
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
        return self._rgb(_read(self.path, self.raster, self.bands, window=((r0, r1), (c0, c1))))

    def overview(self, height: int, width: int) -> np.ndarray:
        """Returns the whole scene at another size, uint8 [height, width, 3]; InputError where the file is torn."""
        return self._rgb(_read(self.path, self.raster, self.bands, out_shape=(len(self.bands), height, width)))

    def _rgb(self, values: np.ma.MaskedArray) -> np.ndarray:
        if self.palette is not None:
            return self.palette[values.filled(0)[0]]
        if self.limits:
            values = np.stack([_stretched(band, *limit) for band, limit in zip(values, self.limits, strict=True)])
        return np.broadcast_to(np.ma.filled(values, 0).transpose(1, 2, 0), (*values.shape[1:], 3))


AnyScene = Scene | RasterScene


def open_scene(path: Path, bands: tuple[int, ...] | None = None) -> AnyScene:
    """Opens a scene: a TIFF by rasterio, anything else, and everything where rasterio is missing, whole by Pillow.

    Args:
      path: of a JPEG, PNG, WebP or (Geo)TIFF.
      bands: one (grey) or three 1-based band numbers; by default the first three, or the first where there are fewer.

    Raises:
      InputError: the file is missing, torn, of another format or too large for Pillow, or lacks a band.
    """
    if path.suffix.lower() not in (".tif", ".tiff"):
        return Scene(path, np.asarray(read_image(path, bands)))
    try:
        import rasterio
    except ImportError:
        warnings.warn(
            "rasterio is missing (pip install 'lrsclip_jax[geo]'): the TIFF is read whole, without coordinates",
            stacklevel=2,
        )
        return Scene(path, np.asarray(read_image(path, bands)))
    return _open_raster(path, bands, rasterio)


def _open_raster(path: Path, bands: tuple[int, ...] | None, rasterio: Any) -> RasterScene:
    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
    try:
        raster = rasterio.open(path)
    except rasterio.errors.RasterioError:
        raise InputError(f"{path}: image can't be read: it is missing, torn, or no TIFF") from None
    bands = bands or ((1, 2, 3) if raster.count >= 3 else (1,))
    if len(bands) not in (1, 3) or not all(1 <= band <= raster.count for band in bands):
        raise InputError(f"{path}: bands {bands} of {raster.count}: choose one or three from 1 to {raster.count}")
    kinds = {np.dtype(raster.dtypes[band - 1]) for band in bands}
    if any(np.issubdtype(kind, np.complexfloating) for kind in kinds):
        raise InputError(f"{path}: complex values: save their magnitude as a band of its own")
    palette = None
    if raster.colorinterp[0] == rasterio.enums.ColorInterp.palette:
        colours = raster.colormap(1)
        palette = np.array([colours.get(value, (0, 0, 0, 0))[:3] for value in range(256)], np.uint8)
    survey = None if kinds == {np.dtype(np.uint8)} else _limits(path, raster, bands)
    known = raster.crs is not None or not raster.transform.is_identity
    georeference = Georeference(raster.crs, raster.transform) if known else None
    return RasterScene(path, raster, tuple(bands), survey, palette, georeference)


def _limits(path: Path, raster: Any, bands: tuple[int, ...]) -> tuple[tuple[float, float], ...]:
    shape = (len(bands), min(raster.height, SURVEYED), min(raster.width, SURVEYED))
    limits = []
    for band in _read(path, raster, bands, out_shape=shape):
        valid = np.ma.masked_invalid(band.astype(np.float64)).compressed()
        if not len(valid):
            raise InputError(f"{path}: a band without a single valid pixel")
        limits.append(tuple(np.percentile(valid, STRETCH).tolist()))
    return tuple(limits)


def _stretched(band: np.ma.MaskedArray, low: float, high: float) -> np.ndarray:
    band = np.ma.masked_invalid(band.astype(np.float64))
    scaled = np.clip((band.filled(low) - low) / max(high - low, np.finfo(np.float64).tiny), 0, 1)
    return np.rint(scaled * 255).astype(np.uint8)


def _read(path: Path, raster: Any, bands: tuple[int, ...], **how: Any) -> np.ma.MaskedArray:
    from rasterio.errors import RasterioError

    try:
        return raster.read(list(bands), masked=True, **how)
    except RasterioError:
        raise InputError(f"{path}: torn or damaged TIFF") from None
