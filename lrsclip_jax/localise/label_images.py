"""Classes of a segmentation, and images that say pixel by pixel which class is there."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple, NotRequired, TypedDict

import msgspec
import numpy as np
from PIL import Image

from eval.facts import classes
from eval.papers.published_tables import key
from eval.reading import read_json
from eval.segmentation import Value, label_indices
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.listing import images_below

FACTS = classes.FOLDER / "segmentation"
MOST = 254  # classes, which fit an index of eight bits next to "none"
_FORMATS = ("PNG", "TIFF", "BMP")  # lossless ones
_Index = Annotated[int, msgspec.Meta(ge=0, le=65535)]
# A list, not a tuple of three: in a union msgspec 0.23 decodes tuples of a fixed length into broken memory.
_Colour = Annotated[list[Annotated[int, msgspec.Meta(ge=0, le=255)]], msgspec.Meta(min_length=3, max_length=3)]


class _Row(TypedDict):
    name: str
    words: NotRequired[list[str]]
    value: NotRequired[_Index | _Colour]


class _Facts(TypedDict):
    classes: list[_Row]


class Classes(NamedTuple):
    """C classes: their names, the words that name each to the model, and their values in label images."""

    names: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
    values: tuple[Value, ...]


class Labelled(NamedTuple):
    """An image and its label image."""

    name: str
    image: Path
    label: Path | None


def read_classes(path: Path) -> Classes:
    """Reads a JSON list of classes: [{"name": "building", "words": ["building", "house"], "value": 1}, …].

    A name that is no file may be that of a data set in `eval/facts/segmentation`, such as "loveda".

    Without words the name itself is taken, in words; without a value the place in the list, from 0. A value is an
    index, or a colour [r, g, b].

    Raises:
      InputError: no such list, fewer than two classes or too many, two of one name or value, a class without words, or
        indices next to colours.
    """
    known = FACTS / f"{key(path.name)}.json"
    if not path.exists() and known.exists():
        facts: _Facts = read_json(known, _Facts)
        rows = facts["classes"]
    else:
        rows = read_json(path, list[_Row])
    if not 2 <= len(rows) <= MOST:
        raise InputError(f"{path}: {len(rows)} classes, 2 to {MOST} are expected")
    names = tuple(row["name"] for row in rows)
    words = tuple(tuple(row.get("words", [classes.words(row["name"])])) for row in rows)
    given = (row.get("value", number) for number, row in enumerate(rows))
    values: tuple[Value, ...] = tuple((v[0], v[1], v[2]) if isinstance(v, list) else v for v in given)
    for what, found in (("name", names), ("value", values)):
        if twice := next((each for number, each in enumerate(found) if each in found[:number]), None):
            raise InputError(f"{path}: two classes have the {what} {twice!r}")
    if empty := next(
        (name for name, own in zip(names, words, strict=True) if not all(map(str.strip, own or [""]))), None
    ):
        raise InputError(f"{path}: the class {empty!r} has no words, or an empty one")
    if len({isinstance(value, int) for value in values}) > 1:
        raise InputError(f"{path}: values are indices or colours, not both: give each class its own")
    return Classes(names, words, values)


def labelled_images(images: Path, labels: Path) -> list[Labelled]:
    """Returns the images below a folder with the label images of the same names, but for the suffix, below another.

    Raises InputError for a folder that can't be read, no image, or two images or label images of one name.
    """
    of_name, found = _by_name(labels, "label images"), _by_name(images, "images")
    if not found:
        raise InputError(f"{images}: no images there")
    if not of_name.keys() & found.keys():
        raise InputError(
            f"{labels}: no label image is called as an image below {images}, such as {next(iter(found))}.png"
        )
    return [Labelled(name, image, of_name.get(name)) for name, image in found.items()]


def _by_name(folder: Path, what: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for parts in images_below(folder):
        name = str(Path(*parts).with_suffix(""))
        if name in found:
            raise InputError(f"{folder}: two {what} are called {name}")
        found[name] = folder.joinpath(*parts)
    return found


def read_labels(path: Path, height: int, width: int, values: Sequence[Value]) -> np.ndarray:
    """Returns the class of each pixel of a label image, int16 [H, W], see `eval.segmentation.label_indices`.

    A palette counts as its indices where the values are indices, and as its colours where they are colours.

    Raises:
      InputError: it can't be read, is no PNG, TIFF or BMP, or has another size or other kinds of values.
    """
    coloured = not isinstance(values[0], int)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as image:
                if image.size != (width, height):
                    raise InputError(
                        f"{path}: labels of {image.height}×{image.width} pixels for an image of {height}×{width}"
                    )
                if coloured or image.mode in ("RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV"):
                    pixels = np.asarray(image.convert("RGB"))
                else:
                    pixels = np.asarray(image)
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{path}: label image can't be read ({str(error).splitlines()[0][:200]})") from None
    if pixels.ndim == 2 and pixels.dtype.kind not in "biu":
        raise InputError(f"{path}: values of type {pixels.dtype}, whole numbers are expected")
    try:
        return label_indices(pixels.astype(np.int64) if pixels.dtype == bool else pixels, values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
