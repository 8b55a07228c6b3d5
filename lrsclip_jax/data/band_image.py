"""Images of any number of bands: read from TIFFs by the bands' names, and written as the records of prepared sets.

A record is a small TIFF: the values as they are, of 8 or 16 bits or float32, compressed without loss, one strip a band,
whose descriptions are the bands' names. GDAL, QGIS and every TIFF library open it, one reader serves files and records,
and a model of some of the bands decodes these alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lrsclip_jax.data.bands import RGB, bands_in, find, places, rgb_numbers
from lrsclip_jax.data.geotiff import driver_of, fits_memory, imported, opened, pixel_limit, too_large
from lrsclip_jax.data.images import raster_driver, read_image
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.data.stretch import unstretched
from lrsclip_jax.errors import InputError

KINDS = ("uint8", "uint16", "int16", "float32")  # of values that are read and stored
ADVICE = "; --layout=… says what its bands are"


class BandImage:
    """An image of bands as float32, with those of Pillow's methods that preprocessing calls: `resize` and `crop`.

    So crops and sizes are those of RGB images, by the same filters, and values are not rounded.
    """

    def __init__(self, planes: Sequence[Image.Image]):
        self._planes = planes

    @classmethod
    def of(cls, values: np.ndarray) -> BandImage:
        """Returns the image of real values [B, H, W]; masked, NaN and infinite ones become 0, as in the stretch."""
        return cls([Image.fromarray(plane) for plane in unstretched(values)])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._planes[0].size

    @property
    def width(self) -> int:
        """In pixels."""
        return self.size[0]

    @property
    def height(self) -> int:
        """In pixels."""
        return self.size[1]

    def resize(
        self, size: tuple[int, int], resample: Image.Resampling, box: tuple[float, float, float, float] | None = None
    ) -> BandImage:
        """Returns the image, or its part in a box, at another size."""
        return BandImage([plane.resize(size, resample, box=box) for plane in self._planes])

    def crop(self, box: tuple[int, int, int, int]) -> BandImage:
        """Returns the part in a box."""
        return BandImage([plane.crop(box) for plane in self._planes])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Returns float32 [H, W, B]."""
        return np.stack([np.asarray(plane) for plane in self._planes], axis=-1).astype(dtype or np.float32, copy=False)


AnyImage = Image.Image | BandImage


def seen(
    source: bytes | Path, preprocessing: Preprocessing, layout: Sequence[str] = (), name: str | None = None
) -> AnyImage:
    """Returns an image, given as a path or as its bytes, as a tower is to see it: RGB, or the bands that it reads.

    `layout` names the bands of files that do not. Raises InputError as `images.read_image` and `read_bands`.
    """
    if not preprocessing.bands and not layout:
        return read_image(source, name=name)
    if not preprocessing.bands:
        numbers = rgb_numbers(layout)
        if numbers is None:
            raise InputError(f"{name or source!s}: no red, green and blue among its bands {', '.join(layout)}")
        return read_image(source, numbers, name=name)
    return BandImage.of(read_bands(source, preprocessing.bands, layout, name))


def of_pixels(pixels: np.ndarray) -> AnyImage:
    """Returns pixels of a scene as an image: uint8 [H, W, 3] is RGB, float32 [H, W, bands] are bands."""
    if pixels.dtype == np.uint8:
        return Image.fromarray(np.ascontiguousarray(pixels))
    return BandImage.of(np.moveaxis(pixels, -1, 0))


def read_bands(
    source: bytes | Path, bands: Sequence[str], layout: Sequence[str] = (), name: str | None = None
) -> np.ma.MaskedArray:
    """Returns some bands of a TIFF or JPEG 2000 by name, in the file's own type: [B, H, W], masked where no data is.

    Raises:
      InputError: it can't be read, is of another format, lacks a band, or holds values of another type than KINDS.
    """
    name = name or ("image" if isinstance(source, bytes) else str(source))
    try:
        driver = driver_of(source[:12]) if isinstance(source, bytes) else raster_driver(source)
    except OSError as error:
        raise InputError(f"{name}: image can't be read ({error.strerror})") from None
    if driver is None:
        raise InputError(f"{name}: no TIFF or JPEG 2000, which hold bands such as {bands[0]}")
    with opened(source, name) as raster:
        numbers = band_numbers(raster, bands, layout, name)
        if raster.width * raster.height > pixel_limit():
            raise too_large(name)
        if not fits_memory(raster, len(numbers)):
            raise InputError(f"{name}: {raster.width:,} × {raster.height:,} × {len(numbers)} bands: cut it into tiles")
        values: np.ma.MaskedArray = raster.read(numbers, masked=True)
        return values


def band_numbers(raster: Any, bands: Sequence[str], layout: Sequence[str], name: str) -> list[int]:
    """Returns the numbers, from 1, of bands of a raster that rasterio has opened; InputError as `read_bands`."""
    numbers = [place + 1 for place in places(bands, bands_in(raster, layout, name), name, "" if layout else ADVICE)]
    if other := {raster.dtypes[number - 1] for number in numbers}.difference(KINDS):
        raise InputError(f"{name}: values of {min(other)}: save them as {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    return numbers


def write_bands(values: np.ndarray, bands: Sequence[str]) -> bytes:
    """Returns the TIFF of a record, of values [B, H, W] of a type in KINDS; the same values give the same bytes."""
    rasterio = imported("image")
    count, height, width = values.shape
    layout = {"count": count, "height": height, "width": width, "dtype": values.dtype, "interleave": "band"}
    packed = {"compress": "deflate", "predictor": 3 if values.dtype.kind == "f" else 2, "blockysize": height}
    with rasterio.MemoryFile() as file:
        with file.open(driver="GTiff", **layout, **packed, photometric="MINISBLACK") as raster:
            raster.write(values)
            raster.descriptions = tuple(bands)
        return bytes(file.getbuffer())


def picture(source: bytes | Path, layout: Sequence[str] = (), name: str | None = None) -> Image.Image:
    """Returns an image as people look at it: of bands by red, green and blue, or the first ones where one is missing.

    Raises InputError as `images.read_image`.
    """
    if isinstance(source, bytes) and not driver_of(source[:12]):
        return read_image(source, name=name)
    with opened(source, name or "image") as raster:
        found = [place + 1 for place in find(RGB, bands_in(raster, layout, name or "image")) if place is not None]
    return read_image(source, tuple(found) if len(found) == len(RGB) else None, name=name)
