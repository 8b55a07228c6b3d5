"""Images as servers take them: RGB JPEGs of a bounded size in data URLs."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

from lrsclip_jax.data.images import read_image
from lrsclip_jax.data.preprocessing import resize_and_crop
from lrsclip_jax.errors import InputError

QUALITY = 92  # of the JPEG


@dataclass(frozen=True)
class Fit:
    """How large an image is sent.

    Attributes:
      side: in pixels. Without `crop` the longer side is at most that, and nothing is enlarged.
      crop: the shorter side becomes `side`, and the central square is kept.
    """

    side: int = 1024
    crop: bool = False

    def __post_init__(self) -> None:
        if type(self.side) is not int or self.side < 1:
            raise InputError(f"an image is sent with a side of 1 pixel or more, not {self.side!r:.40}")


# RSCLIP, §II-A: "resized and cropped to a uniform 512 pixel square".
RSCLIP_FIT = Fit(512, crop=True)


def data_url(path: str, fit: Fit) -> str:
    """Returns the image of a file as "data:image/jpeg;base64,…", without the file's EXIF.

    Raises InputError naming a file that `read_image` can't read.
    """
    buffer = io.BytesIO()
    fitted(read_image(path), fit).save(buffer, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def fitted(image: Image.Image, fit: Fit) -> Image.Image:
    """Returns an RGB image in the size that is sent, antialiased bicubic."""
    if fit.crop:
        return Image.fromarray(resize_and_crop(image, fit.side))
    scale = min(1.0, fit.side / max(image.size))
    width, height = (max(1, round(scale * length)) for length in image.size)
    size = (width, height)
    return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)
