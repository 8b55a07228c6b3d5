"""GeoTIFF and JPEG 2000 by rasterio: what their bands hold, and how it becomes 8-bit RGB.

A file is untrusted. GDAL would let it name others: as a VRT that is called .tif, in files next to it (.ovr, .msk), in
its own metadata. So the driver is chosen by the first bytes, pixels come from the one file alone, and sizes are checked
before memory is asked for.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from PIL.ExifTags import Base
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COLORMAP,
    EXTRASAMPLES,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    ROWSPERSTRIP,
    SAMPLEFORMAT,
    SAMPLESPERPIXEL,
    STRIPOFFSETS,
    TILELENGTH,
    TILEOFFSETS,
    TILEWIDTH,
    TiffImageFile,
)

from lrsclip_jax.data.remote import gdal_options, is_address, network_reason
from lrsclip_jax.data.stretch import limits, stretched, unstretched
from lrsclip_jax.errors import InputError

_MAGIC = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JP2OpenJPEG",
    b"\xff\x4f\xff\x51": "JP2OpenJPEG",  # a codestream without a box around it
}
# Of what lies at an address, by the end of its path; all else is taken for a TIFF. Their files name no others.
_REMOTE = {
    ".jp2": "JP2OpenJPEG",
    ".j2k": "JP2OpenJPEG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
}
_PREMULTIPLIED = 1  # of ExtraSamples
# Of the pixels that are read at once: three bands of 32 bits at the most pixels that an image may have.
_BYTES_A_PIXEL = 12
_TILE_HEAD = 14  # bytes that JPEG 2000 needs for a tile, at least: its markers SOT and SOD
# A TIFF of many bands is no error here, rasterio reads it: Pillow would print a line for each.
logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)


def driver_of(head: bytes) -> str | None:
    """Returns GDAL's driver for a file that begins with `head` (12 bytes), None where it is no TIFF or JPEG 2000."""
    return next((driver for magic, driver in _MAGIC.items() if head.startswith(magic)), None)


def pixel_limit() -> int:
    """Returns the most pixels that an image may have: where Pillow turns from warning to refusing."""
    return 2 * (Image.MAX_IMAGE_PIXELS or sys.maxsize)


def too_large(name: str) -> InputError:
    """Returns the error for an image above `pixel_limit`."""
    return InputError(f"{name}: over {pixel_limit():,} pixels, Pillow's limit: cut it into tiles")


@dataclass(frozen=True)
class Bands:
    """The bands that are shown, and how their values become RGB; or those that a tower sees as they are.

    Attributes:
      numbers: one (grey) or three, from 1; of `raw` ones any number.
      limits: what becomes 0 and 255 in each band; None: 8-bit values, taken as they are.
      palette: uint8 [256 or 65536, 3]; None: the values are no indices.
      raw: whether values stay as they are.
    """

    numbers: tuple[int, ...]
    limits: tuple[tuple[float, float], ...] | None
    palette: np.ndarray | None = field(repr=False)
    raw: bool = False

    @property
    def masked(self) -> bool:
        """Whether it is asked which values are data."""
        return self.raw or bool(self.limits)

    def pixels(self, values: np.ndarray) -> np.ndarray:
        """Returns values [1 or 3, H, W] as uint8 [H, W, 3], and `raw` ones, [B, H, W], as float32 [H, W, B]."""
        if self.raw:
            return unstretched(values).transpose(1, 2, 0)
        if self.palette is not None:
            return self.palette[values[0]]
        if self.limits:
            values = np.stack([stretched(band, *pair) for band, pair in zip(values, self.limits, strict=True)])
        return np.broadcast_to(values.transpose(1, 2, 0), (*values.shape[1:], 3))


def band_numbers(bands: tuple[int, ...] | None, count: int, name: str) -> tuple[int, ...]:
    """Returns the bands to show of `count`; InputError for others than one or three that are there."""
    bands = bands or ((1, 2, 3) if count >= 3 else (1,))
    if len(bands) not in (1, 3) or not all(1 <= band <= count for band in bands):
        wanted = ", ".join(map(str, bands))
        raise InputError(f"{name}: bands {wanted} of {count}: choose one or three from 1 to {count}")
    return tuple(bands)


def bands_of(
    raster: Any,
    header: TiffImageFile | None,
    bands: tuple[int, ...] | None,
    stretch: tuple[float, float],
    read: Callable[[int], np.ndarray],
    name: str,
) -> Bands:
    """Returns the bands to show, and how.

    Args:
      raster: opened by rasterio.
      header: see `tiff_header`.
      bands: those wanted; by default the first three, or the first where there are fewer. A palette is looked up only
        by default: who names a band wants its numbers.
      stretch: percentiles that become 0 and 255.
      read: returns the masked values of a band that is shown.
      name: for messages.

    Raises:
      InputError: a band is not there, holds complex values, or has no valid pixel.
    """
    numbers = band_numbers(bands, raster.count, name)
    kinds = {np.dtype(raster.dtypes[number - 1]) for number in numbers}
    if any(kind.kind == "c" for kind in kinds):
        raise InputError(f"{name}: complex values: save their magnitude as a band of its own")
    palette = None if bands else _palette(raster, header)
    if palette is not None:
        return Bands(numbers, None, palette)
    bits = [int(raster.tags(number, ns="IMAGE_STRUCTURE").get("NBITS", 8)) for number in numbers]
    if kinds != {np.dtype(np.uint8)}:
        return Bands(numbers, tuple(limits(read(number), stretch, name) for number in numbers), None)
    if min(bits) < 8:
        return Bands(numbers, tuple((0.0, float(2**some - 1)) for some in bits), None)
    return Bands(numbers, None, None)


def fits_memory(raster: Any, bands: int) -> bool:
    """Returns whether that number of bands of a raster may be read whole."""
    pixels = raster.width * raster.height
    size = pixels * bands * np.dtype(raster.dtypes[0]).itemsize
    return pixels <= pixel_limit() and size <= _BYTES_A_PIXEL * pixel_limit()


@contextmanager
def opened(source: Path | bytes, name: str) -> Iterator[Any]:
    """Gives a raster, opened by rasterio from its path or its bytes; InputError where that or its use fails."""
    rasterio = imported(name)
    with errors_named(name):
        if isinstance(source, bytes):
            with rasterio.MemoryFile(source) as file, file.open(driver=driver_of(source[:12])) as raster:
                yield checked(raster, len(source), name)
        else:
            with open_raster(source, name) as raster:
                yield raster


def open_raster(path: Path, name: str) -> Any:
    """Opens a regular file by rasterio; no file next to it is looked for. InputError where it can't be read."""
    rasterio = imported(name)
    with errors_named(name), rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        return checked(open_with_neighbours(path, name), path.stat().st_size, name)


def open_with_neighbours(path: Path, name: str) -> Any:
    """Opens a raster as GDAL does, for its place on the map: world files and .aux.xml count. Read no pixel of it."""
    rasterio = imported(name)
    with open(path, "rb") as file:
        driver = driver_of(file.read(12))
    if driver is None:
        raise InputError(f"{name}: no TIFF or JPEG 2000 image")
    place = path.absolute()  # GDAL reads a relative "GTIFF_DIR:…" as more than a name
    try:
        os.fspath(place).encode()
    except UnicodeEncodeError:  # rasterio knows UTF-8 names only
        return rasterio.open(open(place, "rb"), driver=driver)
    return rasterio.open(place, driver=driver)


def open_remote(url: str) -> Any:
    """Opens the raster at an address; InputError where it can't be read, with the server's or the network's reason."""
    rasterio = imported(url)
    driver = _REMOTE.get(Path(urlsplit(url).path).suffix.lower(), "GTiff")
    with errors_named(url), rasterio.Env(**gdal_options()):
        return checked(rasterio.open(url, driver=driver), sys.maxsize, url)


def checked(raster: Any, size: int, name: str) -> Any:
    """Returns an open raster; InputError where it leads to other files, or can't be what its header says.

    That is with blocks too large to read, or with more tiles than its bytes, `size`, can hold.
    """
    if "OVERVIEW_FILE" in raster.tags(ns="OVERVIEWS"):
        raise InputError(f"{name}: a TIFF that names another file for its overviews is not read")
    # GDAL searches some damaged JPEG 2000 files for minutes to tell how their bands are interleaved.
    apart = raster.driver == "GTiff" and raster.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE") == "BAND"
    block = max((rows * columns for rows, columns in raster.block_shapes), default=0)
    memory = block * (1 if apart else raster.count) * max(np.dtype(kind).itemsize for kind in raster.dtypes)
    if block > pixel_limit() or memory > _BYTES_A_PIXEL * pixel_limit():
        raise InputError(
            f"{name}: {raster.width:,} × {raster.height:,} pixels in blocks of {block:,}, over Pillow's limit of "
            f"{pixel_limit():,} or over {_BYTES_A_PIXEL * pixel_limit():,} bytes: store it in small blocks, or cut it "
            "into tiles"
        )
    tiles = raster.width * raster.height // max(block, 1)
    if raster.driver == "JP2OpenJPEG" and tiles * _TILE_HEAD > size:
        raise InputError(f"{name}: torn or damaged JPEG 2000 image ({tiles:,} tiles in {size:,} bytes)")
    return raster


def imported(name: str) -> Any:
    """Returns the module rasterio; InputError naming the extra where it is missing."""
    try:
        import rasterio
    except ImportError:
        raise InputError(
            f"{name}: JPEG 2000, and a TIFF of 16 bits, of several bands or of a rare compression, needs rasterio: "
            "pip install 'lrsclip_jax[geo]'"
        ) from None
    for kind in (rasterio.errors.NotGeoreferencedWarning, rasterio.errors.NodataShadowWarning):
        warnings.filterwarnings("ignore", category=kind)
    logging.getLogger("rasterio._env").setLevel(logging.CRITICAL)  # its errors are raised, too
    return rasterio


@contextmanager
def errors_named(name: str) -> Iterator[None]:
    """Turns what rasterio raises of a damaged file into an InputError that names it."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # RasterioError, but also ValueError, OverflowError, UnicodeDecodeError, MemoryError …
        if is_address(name):
            raise InputError(f"{name}: can't be read ({network_reason(error)})") from None
        # GDAL's own words hold the random name of a file in memory: they would differ from run to run.
        raise InputError(f"{name}: torn or damaged TIFF or JPEG 2000 image") from None


def tiff_header(source: Any) -> TiffImageFile | None:
    """Returns what Pillow says of a TIFF (a path, a file or a stream); None where Pillow can't read that kind.

    Raises DecompressionBombError, as Pillow does.
    """
    try:
        header = Image.open(source, formats=("TIFF",))
        assert isinstance(header, TiffImageFile)
        tags = header.tag_v2
        unsigned = set(tags.get(SAMPLEFORMAT, (1,))) <= {1, 4} and max(tags.get(BITSPERSAMPLE, (1,))) <= 8
        return header if unsigned and header.mode != "LAB" and _stored_whole(header) else None
    except Image.DecompressionBombError:
        raise
    except Exception:  # damaged headers raise anything, from SyntaxError to struct.error
        return None


def gdal_agrees(header: TiffImageFile) -> bool:
    """Returns whether GDAL gives the values that Pillow gives, for a TIFF of at most 8 bits.

    Not so where white is 0, in YCbCr (the colours of which they draw out in two ways) and CMYK, with colours multiplied
    by their opacity, in fewer bits than eight, or for an image that its orientation tag turns.
    """
    tags = header.tag_v2
    bits, kind = set(tags.get(BITSPERSAMPLE, (1,))), tags.get(PHOTOMETRIC_INTERPRETATION, 0)
    usual = kind == 3 or (kind in (1, 2) and bits == {8})
    return usual and _PREMULTIPLIED not in tags.get(EXTRASAMPLES, ()) and not turned(header)


def turned(header: TiffImageFile) -> bool:
    """Returns whether Pillow turns or mirrors a TIFF."""
    return header.tag_v2.get(Base.Orientation, 1) in range(2, 9)


def _stored_whole(header: TiffImageFile) -> bool:
    """Whether every block of a TIFF is there. GDAL leaves out those without data; Pillow would take other bytes."""
    tags, (width, height) = header.tag_v2, header.size
    if TILEOFFSETS in tags:
        offsets, columns, rows = tags[TILEOFFSETS], tags[TILEWIDTH], tags[TILELENGTH]
    else:
        offsets, columns, rows = tags[STRIPOFFSETS], width, min(tags.get(ROWSPERSTRIP, height), height)
    planes = tags.get(SAMPLESPERPIXEL, 1) if tags.get(PLANAR_CONFIGURATION, 1) == 2 else 1
    if turned(header):
        return min(offsets) > 0
    return min(offsets) > 0 and len(offsets) >= math.ceil(width / columns) * math.ceil(height / rows) * planes


def _palette(raster: Any, header: TiffImageFile | None) -> np.ndarray | None:
    """The colours of a TIFF's values; those of an 8-bit one as Pillow cuts them to 8 bits."""
    from rasterio.enums import ColorInterp

    kind = np.dtype(raster.dtypes[0])
    if raster.colorinterp[0] != ColorInterp.palette or kind not in (np.uint8, np.uint16):
        return None
    palette = np.zeros((1 << 8 * kind.itemsize, 3), np.uint8)
    if header is not None and header.mode in ("P", "PA") and COLORMAP in header.tag_v2:
        colours = np.array(header.tag_v2[COLORMAP]).reshape(3, -1).T // 256
    else:
        table = raster.colormap(1)
        colours = np.array([table.get(value, (0, 0, 0, 0))[:3] for value in range(len(palette))])
    palette[: len(colours)] = colours[: len(palette)]
    return palette
