"""The preprocessing that a checkpoint was trained with: from an image to what its tower sees.

`preprocess` is CLIP's own transform to the byte.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from PIL import Image

from lrsclip_jax.data.native import grid_of
from lrsclip_jax.errors import InputError

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
