"""The size of an image without decoding it, and its file where annotations name only its stem."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from PIL import Image

from lrsclip_jax.data.images import SUFFIXES
from lrsclip_jax.errors import InputError

_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")  # those that `data.images.read_image` decodes
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def size_of(path: Path) -> tuple[int, int]:
    """Returns width and height of an image in pixels, as its header has them; nothing is decoded.

    A TIFF may be larger than Pillow's limit against decompression bombs if it can be read in parts, that is if its
    blocks stay under the limit. Raises InputError for an image that is missing, of another format, or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as image:
                return image.size
    except (Image.DecompressionBombError, Image.UnidentifiedImageError) as error:
        with open(path, "rb") as file:
            if file.read(4) in _TIFF_MAGIC:
                return _raster_size(path)
        if isinstance(error, Image.DecompressionBombError):
            raise InputError(f"{path}: over {_limit():,} pixels, Pillow's limit: cut it into tiles first") from None
        raise InputError(f"{path}: not a JPEG, PNG, WebP or TIFF image, or its header is torn") from None
    except OSError as error:
        raise InputError(f"{path}: image can't be read ({error.strerror or error})") from None
    except Exception as error:  # decoders of damaged headers raise anything, from SyntaxError to struct.error
        raise InputError(f"{path}: damaged header ({' '.join(str(error).split())})") from None


def of_stem(root: Path, stem: str) -> Path:
    """Returns the image of that name and any known suffix in a folder; InputError where there is none."""
    for suffix in SUFFIXES:
        for path in (root / f"{stem}{suffix}", root / f"{stem}{suffix.upper()}"):
            if os.path.isfile(path):  # False, too, for a name that no file can have
                return path
    raise InputError(f"{root / stem}: no image of that name ({', '.join(SUFFIXES)})")


def _raster_size(path: Path) -> tuple[int, int]:
    try:
        import rasterio.errors
    except ImportError:
        raise InputError(f"{path}: this TIFF needs rasterio: pip install 'lrsclip_jax[geo]'") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            with rasterio.open(path) as raster:
                width, height, blocks = raster.width, raster.height, raster.block_shapes
        except rasterio.errors.RasterioError:
            raise InputError(f"{path}: torn, or no TIFF") from None
    block = max((rows * columns for rows, columns in blocks), default=0)
    if block > _limit():
        raise InputError(
            f"{path}: {width:,} × {height:,} pixels in blocks of {block:,}, over Pillow's limit of {_limit():,}: "
            "store it in small blocks, or cut it into tiles"
        )
    return width, height


def _limit() -> int:
    return 2 * (Image.MAX_IMAGE_PIXELS or 1 << 62)  # where Pillow turns from warning to refusing; None: never
