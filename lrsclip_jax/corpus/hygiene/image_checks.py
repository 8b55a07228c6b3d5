"""Images that can't be used: unreadable ones, tiny ones, and those that show nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from PIL import Image

from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.data.images import read_image
from lrsclip_jax.data.parallel import in_threads
from lrsclip_jax.errors import InputError

MIN_SIDE = 64
UNIFORM = 0.9


def check_images(
    records: Iterable[CorpusRecord], min_side: int = MIN_SIDE, uniform: float | None = UNIFORM
) -> Iterator[CorpusRecord | SetAside]:
    """Sets aside images that can't be read, are small, or are nearly all of one grey value; the others get their size.

    An image of more pixels than Pillow's limit is refused by its header, before a pixel is decoded.

    Args:
      records: of which nothing but a few images a core is held.
      min_side: least length of the shorter side, in pixels.
      uniform: the share of pixels of a single grey value at which an image shows nothing: no-data, cloud, open water;
        None: that is not looked at.
    """
    if min_side < 1 or (uniform is not None and not 0 < uniform <= 1):
        raise InputError(f"a least side of {min_side} pixels, a uniform share of {uniform}: choose ≥ 1, and 0 to 1")
    return in_threads(lambda record: _checked(record, min_side, uniform), records)


def _checked(record: CorpusRecord, min_side: int, uniform: float | None) -> CorpusRecord | SetAside:
    try:
        image = read_image(record.file)
    except InputError as error:
        return SetAside(record.id, "images", str(error))
    width, height = image.size
    if min(width, height) < min_side:
        return SetAside(record.id, "images", f"{record.image}: {width}×{height} pixels, a side under {min_side}")
    if uniform is not None and (share := uniform_share(image)) >= uniform:
        return SetAside(record.id, "images", f"{record.image}: {share:.1%} of its pixels have one grey value")
    return replace(record, width=width, height=height)


def uniform_share(image: Image.Image) -> float:
    """Returns the share of pixels that have the most common grey value, of 256."""
    histogram = image.convert("L").histogram()
    return max(histogram) / sum(histogram)
