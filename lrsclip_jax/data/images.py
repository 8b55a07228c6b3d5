"""One reader for every image: training sets are prepared, and embedding and evaluation read, through `read_image`.

A file of any kind becomes 8-bit RGB here, before anything is resized (`data.preprocessing`).
"""

from __future__ import annotations

import errno
import io
import os
import stat
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lrsclip_jax.data.geotiff import (
    band_numbers,
    bands_of,
    driver_of,
    fits_memory,
    opened,
    pixel_limit,
    tiff_header,
    too_large,
)
from lrsclip_jax.data.stretch import STRETCH, limits, stretched
from lrsclip_jax.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".jp2")
# Naming them keeps Pillow's rarer decoders (PostScript runs a program) away from untrusted files. rasterio reads
# JPEG 2000, of which Pillow keeps 8 bits.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")
KNOWN = "a JPEG, PNG, WebP, TIFF, BMP or JPEG 2000 image"
# How a PNG of 16 bits is stored, in Pillow's words, and what to call it so that its low bytes come out.
_LOW_BYTES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L", "LA;16B": "RGBA"}
_MOST_BYTES = 1 << 30  # of an encoded image; a TIFF is read where it lies


def read_image(
    source: str | os.PathLike | bytes,
    bands: tuple[int, ...] | None = None,
    stretch: tuple[float, float] = STRETCH,
    name: str | None = None,
) -> Image.Image:
    """Reads a JPEG, PNG, WebP, BMP, JPEG 2000 or (Geo)TIFF, given as a path or as its bytes, as an RGB image.

    `bands` are one (grey) or three 1-based band numbers; by default the first three, or the first where there
    are fewer. Unsigned values of 8 bits are taken as they are, a palette's colours looked up. Others are stretched,
    each band from its own percentiles `stretch` to 0 … 255; no-data, NaN and infinite pixels are left out of the
    percentiles and become 0. JPEG 2000 and TIFFs of more than 8 bits or of unusual bands need the extra [geo].

    As in CLIP's reference, transparency is dropped and the EXIF orientation ignored (aerial scenes have no
    up). Unlike there, colour conversion comes before the resize: the same bytes for RGB and grey images, and
    a palette image is not resized by nearest neighbour. An image that was RGB in its file keeps its
    `.format`.

    Raises InputError naming the file (or `name`) when it is missing, torn, of another format, no regular file, or
    larger than Pillow's limit against decompression bombs.
    """
    name = name or ("image" if isinstance(source, bytes) else str(source))
    try:
        encoded = source if isinstance(source, bytes) else _bytes_or_tiff(Path(source))
    except OSError as error:
        raise InputError(f"{name}: image can't be read ({error.strerror})") from None
    image = _decode(encoded, bands, name)
    if image is None:
        return _read_raster(encoded, bands, stretch, name)
    if isinstance(image, np.ndarray):
        return _to_rgb(image, bands, stretch, name)
    return as_rgb(image, bands, stretch, name)


def read_file(path: Path) -> bytes:
    """Returns the bytes of an encoded image; OSError for a file that is missing, not regular, or above 1 GiB."""
    _check_size(_regular_size(path))
    return path.read_bytes()


def raster_driver(path: Path) -> str | None:
    """Returns GDAL's driver for a TIFF or JPEG 2000, None for another file; OSError as of `read_file`.

    rasterio reads its files where they lie, however large.
    """
    size = _regular_size(path)
    with open(path, "rb", buffering=0) as file:
        driver = driver_of(file.read(12))
    if driver is None:
        _check_size(size)
    return driver


def size_of(path: Path) -> tuple[int, int]:
    """Returns width and height of an image in pixels, as its header has them; nothing is decoded.

    A TIFF may be larger than Pillow's limit against decompression bombs if it can be read in parts, that is if its
    blocks stay under the limit. Raises InputError for an image that is missing, of another format, or too large.
    """
    try:
        driver = raster_driver(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                return image.size
    except (Image.DecompressionBombError, Image.UnidentifiedImageError) as error:
        if driver:
            with opened(path, str(path)) as raster:
                return raster.width, raster.height
        if isinstance(error, Image.DecompressionBombError):
            raise too_large(str(path)) from None
        raise InputError(f"{path}: not {KNOWN}, or its header is torn") from None
    except OSError as error:
        raise InputError(f"{path}: image can't be read ({error.strerror or error})") from None
    except Exception as error:  # decoders of damaged headers raise anything, from SyntaxError to struct.error
        raise InputError(f"{path}: damaged header ({' '.join(str(error).split())})") from None


def as_rgb(
    image: Image.Image,
    bands: tuple[int, ...] | None = None,
    stretch: tuple[float, float] = STRETCH,
    name: str = "image",
) -> Image.Image:
    """Returns an image of any of Pillow's modes as 8-bit RGB, by the rules of `read_image`."""
    if image.mode.startswith(("I", "F")):  # 16-bit grey PNG; more than 8 bits, or floats
        return _to_rgb(np.asarray(image)[None], bands, stretch, name)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    try:
        image = image if image.mode == "RGB" else image.convert("RGB")
    except ValueError:
        raise InputError(f"{name}: colours of the kind {image.mode}: save it as RGB") from None
    if bands:
        return _to_rgb(np.asarray(image).transpose(2, 0, 1), bands, stretch, name)
    return image


def _regular_size(path: Path) -> int:
    """The bytes of a file; OSError for all but regular ones, as a named pipe or a device may have no end."""
    try:
        found = path.stat()
    except ValueError:  # a null character, half of a surrogate pair
        raise OSError(errno.EINVAL, "no file can have that name") from None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    return found.st_size


def _check_size(size: int) -> None:
    if size > _MOST_BYTES:
        raise OSError(errno.EFBIG, f"over {_MOST_BYTES:,} bytes")


def _bytes_or_tiff(path: Path) -> bytes | Path:
    """The bytes of an encoded image, or the path of what rasterio reads without taking all of it into memory."""
    size = _regular_size(path)
    with open(path, "rb", buffering=0) as file:
        head = file.read(12)
        if driver_of(head):
            return path
        _check_size(size)
        return head + file.read()


def _decode(source: bytes | Path, bands: tuple[int, ...] | None, name: str) -> Image.Image | np.ndarray | None:
    """The image with its pixels loaded, in its own mode; values of 16 bits [C, H, W]; None where rasterio must read."""
    if not isinstance(source, bytes) or driver_of(source[:12]):
        return _decode_tiff(source, bands, name)
    try:
        image = Image.open(io.BytesIO(source), formats=FORMATS)
        stored = image.tile[0][3] if image.format == "PNG" and image.tile else None
        image.load()
        return _deep_png(image, source, stored) if stored in _LOW_BYTES else image
    except Image.UnidentifiedImageError:
        raise InputError(f"{name}: not {KNOWN}, or its header is torn") from None
    except Image.DecompressionBombError:
        raise too_large(name) from None
    except Exception as error:  # decoders of damaged files raise anything, from SyntaxError to struct.error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name}: torn or damaged image ({reason})") from None


def _decode_tiff(source: bytes | Path, bands: tuple[int, ...] | None, name: str) -> Image.Image | None:
    with _stream(source) as stream:
        try:
            image = None if bands else tiff_header(stream)
            if image is not None:
                image.load()
            return image
        except Image.DecompressionBombError:
            raise too_large(name) from None
        except Exception:  # decoders raise anything, of damaged files and of compressions that Pillow lacks
            return None


def _stream(source: bytes | Path) -> Any:
    return io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")


def _deep_png(image: Image.Image, data: bytes, stored: str) -> np.ma.MaskedArray:
    """The colours of a 16-bit PNG, uint16 [C, H, W]; pixels of no opacity are masked.

    `image` has the high bytes, which are all that Pillow keeps. Decoded as if the other byte came first, it gives the
    low ones; grey and opacity, of two bytes each, come as the four channels of another image.
    """
    again = Image.open(io.BytesIO(data), formats=("PNG",))
    again.tile = [tile._replace(args=_LOW_BYTES[stored]) for tile in again.tile]
    low = np.asarray(again).astype(np.uint16)
    if stored == "LA;16B":
        channels = low[..., ::2] << 8 | low[..., 1::2]
    else:
        channels = np.asarray(image).astype(np.uint16) << 8 | low
    colours = channels[..., :3] if channels.shape[-1] > 2 else channels[..., :1]
    empty = np.zeros_like(colours[..., :1], bool) if channels.shape[-1] == 3 else channels[..., -1:] == 0
    return np.ma.masked_array(colours, np.broadcast_to(empty, colours.shape)).transpose(2, 0, 1)


def _read_raster(
    source: bytes | Path, bands: tuple[int, ...] | None, stretch: tuple[float, float], name: str
) -> Image.Image:
    with opened(source, name) as raster:
        numbers = band_numbers(bands, raster.count, name)
        if raster.width * raster.height > pixel_limit():
            raise too_large(name)
        if not fits_memory(raster, len(numbers)):
            raise InputError(f"{name}: {raster.width:,} × {raster.height:,} × {raster.dtypes[0]}: cut it into tiles")
        values = raster.read(list(numbers), masked=True)
        with _stream(source) as stream:
            how = bands_of(
                raster, tiff_header(stream), bands, stretch, lambda number: values[numbers.index(number)], name
            )
        return _image(how.pixels(values if how.limits else values.data))


def _to_rgb(values: np.ndarray, bands: tuple[int, ...] | None, stretch: tuple[float, float], name: str) -> Image.Image:
    """Bands [B, H, W] of any real dtype, masked or not, to RGB."""
    values = values[[number - 1 for number in band_numbers(bands, len(values), name)]]
    if values.dtype != np.uint8:
        values = np.stack([stretched(band, *limits(band, stretch, name)) for band in values])
    return _image(np.broadcast_to(values.transpose(1, 2, 0), (*values.shape[1:], 3)))


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels))
