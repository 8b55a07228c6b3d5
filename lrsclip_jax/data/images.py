"""One reader for every image, and the preprocessing that a checkpoint was trained with.

Training sets are prepared, and embedding and evaluation read, through `read_image`; `preprocess` is CLIP's
own transform to the byte. A file of any kind becomes 8-bit RGB here, before anything is resized.
"""

from __future__ import annotations

import errno
import io
import math
import os
import stat
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

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
from lrsclip_jax.data.native import grid_of
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
_LARGEST_SIDE = 1 << 14  # that a tower sees
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_MOST_RESIZED = 1 << 26  # pixels; of a long thin image only what is kept is resized


def check_side(size: int, name: str) -> None:
    """Raises InputError for a side of images that no tower sees: less than a pixel, or more than 16,384."""
    if not 1 <= size <= _LARGEST_SIDE:
        raise InputError(f"{name}: size {size}: from 1 to {_LARGEST_SIDE:,} pixels are expected")


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become a tower's input: side in pixels; mean and std per channel of values divided by `scale`.

    Of RGB these lie in [0, 1]. A tower of other bands names them; its images are float32, as the files have them.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    # The shorter side becomes `size` ("shorter"), or both sides do, without a crop, for any shape ("squash").
    resize: Literal["shorter", "squash"] = "shorter"
    # The central square; where half the margin is no whole number, CLIP and open_clip round it to the even one
    # ("center"), transformers' processors down ("center_floor"): for margins of 3, 7, 11 … they are a pixel apart.
    crop: Literal["center", "center_floor"] = "center"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"  # Pillow's: antialiased, a = -0.5
    bands: tuple[str, ...] = ()  # that are read, see `data.bands`; (): RGB
    scale: float = 255.0
    # Pixels by which both sides are larger once they are squashed; they are left out at the right and the bottom, as by
    # towers whose patches do not divide the images.
    margin: int = 0
    # Side of a patch, for a tower that takes images of any shape: they are resized to as many patches as a square of
    # `size` has at most, and not cropped (`data.native`). None: they become squares.
    patch: int | None = None
    min_patches: int | None = None  # to how many a small image is enlarged; None: to all

    def __post_init__(self) -> None:
        check_side(self.size, "preprocessing")
        known = {
            "resize": ("shorter", "squash"),
            "crop": ("center", "center_floor"),
            "interpolation": tuple(_FILTERS),
        }
        for field, values in known.items():
            value = getattr(self, field)
            if value not in values:
                raise InputError(f"preprocessing: {field} '{value}' is unknown; known: {', '.join(values)}")
        counts = {len(self.mean), len(self.std)}
        if counts != {self.channels} and not (self.bands and counts == {0}):  # which are not known yet
            raise InputError(f"preprocessing: mean and std need a number for each of {self.channels} channels")
        if self.resize == "shorter" and self.interpolation != "bicubic":
            raise InputError(f"preprocessing: interpolation '{self.interpolation}' needs resize 'squash'")
        if not 0 <= self.margin <= (self.size if self.resize == "squash" else 0):
            raise InputError(f"preprocessing: margin {self.margin} does not go with resize '{self.resize}'")
        if self.patch is not None and (self.patch < 1 or self.size % self.patch or self.margin):
            raise InputError(f"preprocessing: patches of {self.patch} do not go with size {self.size}")
        if self.min_patches is not None and not 1 <= self.min_patches <= self.budget:
            raise InputError(f"preprocessing: min_patches {self.min_patches} is not in 1…{self.budget}, the budget")

    @property
    def channels(self) -> int:
        """How many numbers a pixel has."""
        return len(self.bands) or 3

    @property
    def dtype(self) -> type[np.generic]:
        """Of pixels before normalisation."""
        return np.float32 if self.bands else np.uint8

    @property
    def budget(self) -> int:
        """The most patches of an image of any shape; 0 where images become squares."""
        return (self.size // self.patch) ** 2 if self.patch else 0

    def sides(self, width: float, height: float) -> tuple[int, int]:
        """Returns the height and width that the tower sees of an image, or a part of one, of this size."""
        if self.patch is None:
            return self.size, self.size
        rows, columns = grid_of(round(height), round(width), self.patch, self.budget, self.min_patches)
        return rows * self.patch, columns * self.patch

    def at(self, size: int) -> Preprocessing:
        """Returns the same for images of another size, which has no margin; of any shape for the budget of its square.

        Raises InputError where patches do not divide it.
        """
        return self if size == self.size else replace(self, size=size, margin=0)

    def native(self, patch: int, min_patches: int | None) -> Preprocessing:
        """Returns the same for images of any shape, which have no margin."""
        return replace(self, patch=patch, min_patches=min_patches, margin=0)

    def squares(self) -> Preprocessing:
        """Returns the same for images that become squares."""
        return replace(self, patch=None, min_patches=None)

    def described(self) -> dict[str, Any]:
        """Returns it as JSON types: what files say of it. Of RGB that is what it was before there were bands."""
        later = {name for name in ("margin", "patch", "min_patches") if not getattr(self, name)}
        left_out = later if self.bands else later | {"bands", "scale"}
        return {name: value for name, value in asdict(self).items() if name not in left_out}

    def words(self) -> str:
        """Returns in words how images are resized."""
        if self.patch:
            return f"shape kept, at most {self.budget} patches of {self.patch}, {self.interpolation}"
        if self.resize == "squash":
            rest = f", without the last {self.margin} pixels of both" if self.margin else ""
            return f"both sides to {self.size + self.margin}, {self.interpolation}{rest}"
        return f"shorter side to {self.size}, {self.interpolation}, central square"


CLIP_PREPROCESSING = Preprocessing(
    size=224, mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711)
)
IMAGENET_PREPROCESSING = Preprocessing(size=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
SIGLIP_PREPROCESSING = Preprocessing(size=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), resize="squash")


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


def preprocess(image: Any, preprocessing: Preprocessing) -> np.ndarray:
    """Returns the uint8 [S, S, 3] pixels that CLIP's or SigLIP's transform has before it normalises them.

    Those of a `band_image.BandImage` in place of an RGB image are float32 [S, S, bands]. Of images of any shape they
    are [rows·patch, columns·patch, C].
    """
    if preprocessing.patch:
        height, width = preprocessing.sides(*image.size)
        return np.asarray(image.resize((width, height), filter_of(preprocessing)))
    size, side = preprocessing.size, preprocessing.size + preprocessing.margin
    if preprocessing.resize == "squash":
        return np.asarray(image.resize((side, side), filter_of(preprocessing)))[:size, :size]
    return resize_and_crop(image, size, preprocessing.crop)


def filter_of(preprocessing: Preprocessing) -> Image.Resampling:
    """Returns Pillow's filter of `Preprocessing.interpolation`."""
    return _FILTERS[preprocessing.interpolation]


def resize_and_crop(image: Any, size: int, crop: str = "center") -> np.ndarray:
    """Returns an RGB image as uint8 [size, size, 3]: shorter side to `size`, then the central square.

    torchvision's Resize(size, BICUBIC) and CenterCrop(size) on a PIL image, byte for byte; with `crop`
    "center_floor" those of transformers' `CLIPImageProcessorPil`. Where the resized image would have more than 2^26
    pixels (at 224, one 1,300 times as long as wide), only the square is resized: an image of 65,500 × 1 would take
    gigabytes.
    """
    if math.prod(shorter_to(size, *image.size)) > max(_MOST_RESIZED, size * size):
        return _central_square(image, size, crop)
    image = resize_shorter(image, size)
    left, top = (central_start(side, size, crop) for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def _central_square(image: Any, size: int, crop: str) -> np.ndarray:
    width, height = image.size
    left, top, right, bottom = central_box(width, height, size, crop)
    reach = math.ceil(3 * max(1, min(image.size) / size))  # the filter sees two pixels, of the image or the result
    x, y = max(0, int(left) - reach), max(0, int(top) - reach)
    part = image.crop((x, y, min(image.width, int(right) + reach + 1), min(image.height, int(bottom) + reach + 1)))
    box = (left - x, top - y, min(right - x, part.width), min(bottom - y, part.height))
    return np.asarray(part.resize((size, size), Image.Resampling.BICUBIC, box=box))


def central_box(width: int, height: int, size: int, crop: str) -> tuple[float, float, float, float]:
    """Returns left, top, right and bottom, in pixels of the image, of what `resize_and_crop` keeps."""
    ranges = []
    for side, resized in zip((width, height), shorter_to(size, width, height), strict=True):
        start, pixel = central_start(resized, size, crop), side / resized
        ranges.append((start * pixel, (start + size) * pixel))
    (left, right), (top, bottom) = ranges
    return left, top, right, bottom


def resize_shorter(image: Any, size: int) -> Any:
    """Resizes the shorter side to `size` and the other, as torchvision does, to int(size · long / short)."""
    return image.resize(shorter_to(size, *image.size), Image.Resampling.BICUBIC)


def shorter_to(size: int, width: int, height: int) -> tuple[int, int]:
    """Returns the width and height that `resize_shorter` gives an image of `width` × `height`."""
    return (size, int(size * height / width)) if width <= height else (int(size * width / height), size)


def central_start(side: int, size: int, crop: str) -> int:
    """Returns where the central `size` pixels of `side` begin, rounded as `Preprocessing.crop` says."""
    return int((round if crop == "center" else math.floor)((side - size) / 2.0))


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
