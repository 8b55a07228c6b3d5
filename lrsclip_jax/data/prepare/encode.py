"""One item of a source becomes one record: image checked, resized and encoded, texts tokenised."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from eval.file_names import spelled
from lrsclip_jax.data.band_image import BandImage, read_bands, write_bands
from lrsclip_jax.data.images import read_file, read_image
from lrsclip_jax.data.prepare.counts import MISSING, NO_TEXT, UNREADABLE, Statistics
from lrsclip_jax.data.prepared.band_set import sums_of
from lrsclip_jax.data.prepared.records import KINDS, Record, encoded, serialize
from lrsclip_jax.data.preprocessing import resize_shorter
from lrsclip_jax.data.tokenizer import clip_tokenizer
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources import Cell, Drawing, Entry, Item, Member
from lrsclip_jax.sources.row_values import clean_name


@dataclass(frozen=True)
class Options:
    """What a record's bytes depend on: shorter side in pixels, JPEG quality, and how rasters become RGB.

    Attributes:
      size, quality: these.
      bands: numbers of one or three bands that become RGB, or names of any number of bands that are kept as they are.
      stretch: percentiles that RGB shows.
      layout: the bands of files that do not name them.
      negatives: whether records say which hard negatives they have, as they do where one of the list has any.
    """

    size: int = 256
    quality: int = 92
    bands: tuple[int, ...] | tuple[str, ...] | None = None
    stretch: tuple[float, float] = (2.0, 98.0)
    layout: tuple[str, ...] | None = None
    negatives: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError(f"size {self.size}: a positive number of pixels is expected")
        if not 1 <= self.quality <= 100:
            raise InputError(f"quality {self.quality}: JPEG knows 1 to 100")
        numbers = self.numbers
        if numbers is not None and (len(numbers) not in (1, 3) or min(numbers) < 1):
            raise InputError(f"bands {self.bands}: one or three band numbers from 1 are expected, or names")
        if len({*self.names}) < len(self.names):
            raise InputError(f"bands {', '.join(self.names)}: one of them stands twice in it")
        if len(self.stretch) != 2 or not 0 <= self.stretch[0] < self.stretch[1] <= 100:
            raise InputError(f"stretch {self.stretch}: two rising percentiles are expected")

    @property
    def names(self) -> tuple[str, ...]:
        """The bands that are kept as they are; (): images become RGB."""
        return tuple(band for band in self.bands or () if isinstance(band, str))

    @property
    def numbers(self) -> tuple[int, ...] | None:
        """The bands that become RGB; None for the first three."""
        return tuple(band for band in self.bands or () if isinstance(band, int)) or None


def encode_item(item: Item, options: Options) -> tuple[bytes | None, Statistics]:
    """Returns an item's serialised record, or None where it has to be skipped, and what there is to count."""
    try:
        record, sums = _record(item, options)
    except _Skip as skip:
        reason, detail = skip.args
        skipped = {"id": item.id, "reason": reason, "detail": detail}
        return None, Statistics(skipped=[skipped], empty_texts=item.empty_texts)
    lengths = {kind: Counter(map(len, record.tokens[clip_tokenizer().hash][kind])) for kind in KINDS}
    data = serialize(record)
    return data, Statistics(
        written=1,
        bytes=len(data),
        empty_texts=item.empty_texts,
        lengths=lengths,
        sums=sums,
        negatives=sum(map(bool, record.negative or ())),
    )


def encode_jpeg(data: bytes, options: Options, name: str) -> bytes:
    """Returns an encoded image of any known format as RGB JPEG with its shorter side at most `options.size`.

    Nothing is enlarged: that adds bytes and no information, and training resizes to the model's size anyway.
    A JPEG that is small enough and already RGB stays as it is, byte for byte, rather than be compressed
    twice. Raises InputError, as `read_image` does.
    """
    image = read_image(data, options.numbers, options.stretch, name)
    if min(image.size) > options.size:
        image = resize_shorter(image, options.size)
    elif image.format == "JPEG" and _upright(image):
        return data
    return _jpeg(image, options.quality)


def encode_bands(data: bytes, options: Options, name: str) -> tuple[bytes, list[list[float]]]:
    """Returns the named bands of a TIFF as the bytes of a record, and the sums of their values.

    Their type stays as it is, and so do the values of an image that is small enough; those of a reduced one are rounded
    to it. Pixels without data become 0, and the sums leave them out. Raises InputError as `read_bands` does.
    """
    values = read_bands(data, options.names, options.layout or (), name)
    sums, image = sums_of(values), BandImage.of(values)
    if min(image.size) > options.size:
        image = resize_shorter(image, options.size)
    kept = np.asarray(image).transpose(2, 0, 1)
    if values.dtype.kind != "f":
        limits = np.iinfo(values.dtype)
        kept = np.clip(np.rint(kept), limits.min, limits.max)
    return write_bands(np.ascontiguousarray(kept.astype(values.dtype)), options.names), sums


class _Skip(Exception):
    """An item can't become a record: the reason, of a few, and the detail."""


def _record(item: Item, options: Options) -> tuple[Record, list[list[float]]]:
    if not isinstance(item.image, Drawing):
        return _read(item, item.image, options)
    if options.names:
        raise _Skip(UNREADABLE, f"{item.id}: a procedural scene has no bands such as {options.names[0]}")
    return _drawn(item.image, options), []


def _read(item: Item, image: Path | Member | Cell | Entry, options: Options) -> tuple[Record, list[list[float]]]:
    if not item.long and not item.short:
        raise _Skip(NO_TEXT, "")
    name = clean_name(str(image))
    try:
        data = read_file(image) if isinstance(image, Path) else image.read_bytes()
        if options.names:
            data, sums = encode_bands(data, options, name)
        else:
            data, sums = encode_jpeg(data, options, name), []
    except (FileNotFoundError, NotADirectoryError):
        raise _Skip(MISSING, name) from None
    except OSError as error:
        raise _Skip(UNREADABLE, f"{name}: {error.strerror}") from None
    except InputError as error:
        raise _Skip(UNREADABLE, str(error)) from None
    tokenizer = clip_tokenizer()
    negative = (item.negative or ("",) * len(item.short)) if options.negatives else None
    record = Record(
        id=item.id,
        source=spelled(item.source),
        image=data,
        long=item.long,
        short=item.short,
        label=item.label,
        licence=item.licence,
        tokens={tokenizer.hash: encoded(tokenizer, item.long, item.short, negative)},
        negative=negative,
    )
    return record, sums


def _drawn(scene: Drawing, options: Options) -> Record:
    from lrsclip_jax.data.prepared.procedural import SceneRecords  # not at the top: other sources need none of it

    return SceneRecords(scene.index + 1, scene.seed, options.size)[scene.index]


def _upright(image: Image.Image) -> bool:
    """Whether every reader shows the pixels as they are stored, those that heed the EXIF orientation too."""
    try:
        return image.getexif().get(Base.Orientation, 1) == 1
    except Exception:  # damaged EXIF data raises anything
        return False


def _jpeg(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()
