"""Images that people drop on the page: bounded, decoded as untrusted, and kept for a while under a key.

Kept is what the tower sees, 150 kB at 224 pixels, and a small JPEG to show. The key is a digest of the bytes, so a
search with an image can be sent to someone as long as the server keeps it.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from lrsclip_jax.data import band_image
from lrsclip_jax.data.geotiff import driver_of, opened
from lrsclip_jax.data.images import FORMATS, KNOWN
from lrsclip_jax.data.preprocessing import Preprocessing, preprocess
from lrsclip_jax.errors import InputError
from lrsclip_jax.search.page.sentences import Refusal

MOST_BYTES = 32 << 20
MOST_PIXELS = 64_000_000
_KEPT = 256
_SHOWN = 256  # pixels of the longer side of what is shown


@dataclass(frozen=True)
class Dropped:
    """An image that was dropped: its key, the tower's input [S, S, C], and a small JPEG."""

    key: str
    pixels: np.ndarray = field(repr=False)
    jpeg: bytes = field(repr=False)


class Shelf:
    """The images that were dropped last; the oldest makes room."""

    def __init__(self, kept: int = _KEPT):
        self._images: OrderedDict[str, Dropped] = OrderedDict()
        self._kept = kept
        self._lock = threading.Lock()

    def put(self, image: Dropped) -> None:
        """Keeps an image."""
        with self._lock:
            self._images[image.key] = image
            self._images.move_to_end(image.key)
            while len(self._images) > self._kept:
                self._images.popitem(last=False)

    def get(self, key: str) -> Dropped:
        """Returns an image; Refusal where it is not kept."""
        with self._lock:
            if key not in self._images:
                raise Refusal(404, "The server no longer has the image of this search: drop it again.")
            self._images.move_to_end(key)
            return self._images[key]


async def body(stream: AsyncIterator[bytes], announced: str | None) -> bytes:
    """Returns the bytes of a request; Refusal where they are more than `MOST_BYTES`, or none."""
    if announced and announced.isdigit() and int(announced) > MOST_BYTES:
        raise _large()
    parts, size = [], 0
    async for part in stream:
        size += len(part)
        if size > MOST_BYTES:
            raise _large()
        parts.append(part)
    if not size:
        raise Refusal(400, f"The request has no image: send the bytes of {KNOWN}.")
    return b"".join(parts)


def decoded(data: bytes, preprocessing: Preprocessing, layout: Sequence[str] = ()) -> Dropped:
    """Returns an image from the bytes of a file; Refusal for one that is too large, torn, or of another kind."""
    try:
        _check_pixels(data)
        seen = band_image.seen(data, preprocessing, layout, "The image")
        image = band_image.picture(data, layout, "The image") if isinstance(seen, band_image.BandImage) else seen
    except InputError as error:
        raise Refusal(415, f"{error}.".replace(": ", " is ", 1) if ": not " in str(error) else f"{error}.") from None
    pixels = preprocess(seen, preprocessing)
    image.thumbnail((_SHOWN, _SHOWN))
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=85)
    return Dropped(hashlib.blake2b(data, digest_size=12).hexdigest(), pixels, jpeg.getvalue())


def _check_pixels(data: bytes) -> None:
    """Refuses what is too large before a pixel is decoded."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as header:
            width, height = header.size
    except Exception:
        if driver_of(data[:12]) is None:
            return  # read_image says what is wrong
        with opened(data, "The image") as raster:
            width, height = raster.width, raster.height
    if width * height > MOST_PIXELS:
        raise Refusal(413, f"The image has {width * height:,} pixels, at most {MOST_PIXELS:,} are read: cut it out.")


def _large() -> Refusal:
    return Refusal(413, f"The image is larger than {MOST_BYTES >> 20} MiB: cut out what matters.")
