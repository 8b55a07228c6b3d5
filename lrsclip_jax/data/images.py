"""One reader for every image, and the preprocessing that a checkpoint was trained with.

Training sets are prepared, and embedding and evaluation read, through `read_image`; `preprocess` is CLIP's
own transform to the byte. Whatever a file holds becomes 8-bit RGB here, before anything is resized.
"""

from __future__ import annotations

import io
import logging
import math
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

from lrsclip_jax.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
# Naming them keeps Pillow's rarer decoders (PostScript runs a program) away from untrusted files.
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# A TIFF of many bands is no error here, rasterio reads it: Pillow would print a line for each.
logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become a tower's input: side in pixels; mean and std per channel of values in [0, 1]."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Literal["shorter"] = "shorter"  # the shorter side becomes `size`
    # The central square; where half the margin is no whole number, CLIP and open_clip round it to the even one
    # ("center"), transformers' processors down ("center_floor"): for margins of 3, 7, 11 … they are a pixel apart.
    crop: Literal["center", "center_floor"] = "center"
    interpolation: Literal["bicubic"] = "bicubic"  # Pillow's: antialiased, a = -0.5

    def __post_init__(self) -> None:
        known = {"resize": ("shorter",), "crop": ("center", "center_floor"), "interpolation": ("bicubic",)}
        for field, values in known.items():
            value = getattr(self, field)
            if value not in values:
                raise InputError(f"preprocessing: {field} '{value}' is unknown; known: {', '.join(values)}")


CLIP_PREPROCESSING = Preprocessing(
    size=224, mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711)
)
IMAGENET_PREPROCESSING = Preprocessing(size=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def read_image(
    source: str | os.PathLike | bytes,
    bands: tuple[int, ...] | None = None,
    stretch: tuple[float, float] = (2.0, 98.0),
    name: str | None = None,
) -> Image.Image:
    """Reads a JPEG, PNG, WebP or (Geo)TIFF, given as a path or as its bytes, as an RGB image, fully decoded.

    `bands` are one (grey) or three 1-based band numbers; by default the first three, or the first where there
    are fewer. 8-bit values are taken as they are. Others are stretched, each band from its own percentiles
    `stretch` to 0 … 255; no-data, NaN and infinite pixels are left out of the percentiles and become 0. TIFFs
    of more than 8 bits or of unusual bands need the extra [geo].

    As in CLIP's reference, transparency is dropped and the EXIF orientation ignored (aerial scenes have no
    up). Unlike there, colour conversion comes before the resize: the same bytes for RGB and grey images, and
    a palette image is not resized by nearest neighbour. An image that was RGB in its file keeps its
    `.format`.

    Raises InputError naming the file (or `name`) when it is missing, torn, of another format, or larger than
    Pillow's limit against decompression bombs.
    """
    name = name or ("image" if isinstance(source, bytes) else str(source))
    data = source if isinstance(source, bytes) else _read_file(Path(source), name)
    image = _decode(data, bands, name)
    if image is None:
        return _to_rgb(_read_raster(data, bands, name), stretch, name)
    return as_rgb(image, bands, stretch, name)


def as_rgb(
    image: Image.Image,
    bands: tuple[int, ...] | None = None,
    stretch: tuple[float, float] = (2.0, 98.0),
    name: str = "image",
) -> Image.Image:
    """Returns an image of any of Pillow's modes as 8-bit RGB, by the rules of `read_image`."""
    if image.mode.startswith("I"):  # 16-bit grey PNG
        return _to_rgb(_choose(np.asarray(image)[None], bands, name), stretch, name)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    image = image if image.mode == "RGB" else image.convert("RGB")
    if bands:
        return _to_rgb(_choose(np.asarray(image).transpose(2, 0, 1), bands, name), stretch, name)
    return image


def preprocess(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """Returns the uint8 [S, S, 3] pixels that CLIP's transform has before ToTensor and Normalize."""
    return resize_and_crop(image, preprocessing.size, preprocessing.crop)


def resize_and_crop(image: Image.Image, size: int, crop: str = "center") -> np.ndarray:
    """Returns an RGB image as uint8 [size, size, 3]: shorter side to `size`, then the central square.

    torchvision's Resize(size, BICUBIC) and CenterCrop(size) on a PIL image, byte for byte; with `crop`
    "center_floor" those of transformers' `CLIPImageProcessorPil`.
    """
    image = resize_shorter(image, size)
    left, top = (central_start(side, size, crop) for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def resize_shorter(image: Image.Image, size: int) -> Image.Image:
    """Resizes the shorter side to `size` and the other, as torchvision does, to int(size · long / short)."""
    return image.resize(shorter_to(size, *image.size), Image.Resampling.BICUBIC)


def shorter_to(size: int, width: int, height: int) -> tuple[int, int]:
    """Returns the width and height that `resize_shorter` gives an image of `width` × `height`."""
    return (size, int(size * height / width)) if width <= height else (int(size * width / height), size)


def central_start(side: int, size: int, crop: str) -> int:
    """Returns where the central `size` pixels of `side` begin, rounded as `Preprocessing.crop` says."""
    return int((round if crop == "center" else math.floor)((side - size) / 2.0))


def _read_file(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{name}: image can't be read ({error.strerror})") from None


def _decode(data: bytes, bands: tuple[int, ...] | None, name: str) -> Image.Image | None:
    """The image with its pixels loaded, in its own mode; None for a TIFF that rasterio must read."""
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        if isinstance(image, TiffImageFile) and (bands or max(image.tag_v2.get(BITSPERSAMPLE, (1,))) > 8):
            return None
        image.load()
        return image
    except Image.UnidentifiedImageError:
        if data[:4] in _TIFF_MAGIC:
            return None
        raise InputError(f"{name}: not a JPEG, PNG, WebP or TIFF image, or its header is torn") from None
    except Image.DecompressionBombError:
        raise _too_large(name) from None
    except Exception as error:  # decoders of damaged files raise anything, from SyntaxError to struct.error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name}: torn or damaged image ({reason})") from None


def _read_raster(data: bytes, bands: tuple[int, ...] | None, name: str) -> np.ma.MaskedArray:
    """The chosen bands [1 or 3, H, W] of a TIFF in its own dtype, no-data masked."""
    try:
        import rasterio
    except ImportError:
        raise InputError(
            f"{name}: a TIFF of 16 bits or of several bands needs rasterio: pip install 'lrsclip_jax[geo]'"
        ) from None
    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
    try:
        with rasterio.MemoryFile(data) as file, file.open() as raster:
            if raster.width * raster.height > pixel_limit():
                raise _too_large(name)
            return raster.read(_checked(bands, raster.count, name), masked=True)
    except rasterio.errors.RasterioError:
        # GDAL's own words hold the random name of the file in memory: they would differ from run to run.
        raise InputError(f"{name}: torn or damaged TIFF") from None


def _choose(values: np.ndarray, bands: tuple[int, ...] | None, name: str) -> np.ndarray:
    return values[[band - 1 for band in _checked(bands, len(values), name)]]


def _checked(bands: tuple[int, ...] | None, count: int, name: str) -> list[int]:
    bands = bands or ((1, 2, 3) if count >= 3 else (1,))
    if len(bands) not in (1, 3) or not all(1 <= band <= count for band in bands):
        wanted = ", ".join(map(str, bands))
        raise InputError(f"{name}: bands {wanted} of {count}: choose one or three from 1 to {count}")
    return list(bands)


def _to_rgb(values: np.ndarray, stretch: tuple[float, float], name: str) -> Image.Image:
    """Bands [1 or 3, H, W] of any real dtype, masked or not, to RGB."""
    if values.dtype != np.uint8:
        values = np.ma.stack([_stretched(band, stretch, name) for band in values])
    channels = np.broadcast_to(np.ma.filled(values, 0), (3, *values.shape[1:]))
    return Image.fromarray(np.ascontiguousarray(channels.transpose(1, 2, 0)))


def _stretched(band: np.ndarray, stretch: tuple[float, float], name: str) -> np.ma.MaskedArray:
    if np.iscomplexobj(band):
        raise InputError(f"{name}: complex values: save their magnitude as a band of its own")
    band = np.ma.masked_invalid(np.ma.asarray(band, np.float64))
    if not band.count():
        raise InputError(f"{name}: a band without a single valid pixel")
    low, high = np.percentile(band.compressed(), stretch)
    scaled = np.ma.clip((band - low) / max(high - low, np.finfo(np.float64).tiny), 0, 1)
    return np.ma.masked_array(np.rint(scaled.filled(0) * 255).astype(np.uint8), np.ma.getmaskarray(band))


def pixel_limit() -> int:
    """Returns the most pixels that an image may have: where Pillow turns from warning to refusing."""
    return 2 * (Image.MAX_IMAGE_PIXELS or sys.maxsize)


def _too_large(name: str) -> InputError:
    return InputError(f"{name}: over {pixel_limit():,} pixels, Pillow's limit: cut it into tiles")
