"""Leaks: the images of an evaluation set that are near an image of the training data, a JSON file for each set.

`lrsclip leaks` writes such files, and `lrsclip evaluate --leaks` measures a set with these images and without them:

    {"dataset": "RSITMD", "split": "test", "source": "dataset_rsitmd.json:test", "distance": 8,
     "train": [{"source": "prepared/lrs2m:train", "images": 2021736, "unread": 0}],
     "images": ["rsitmd/airport_1.tif", …], "near": [{"id": "rsitmd/airport_1.tif", "train": "ucm/airplane01.tif",
     "source": "prepared/lrs2m:train", "distance": 2}, …]}

`images` are the ids of all images that were compared, `near` those that leave a cleaned set, each with the nearest
training image and the bits between their perceptual hashes. Whoever edits a file deletes its checksum, `crc32`.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from eval.errors import InputError
from eval.file_names import all_spelled
from eval.papers.published_tables import key
from eval.seals import read_sealed, seal
from eval.whole import write_text

_Bits = Annotated[int, msgspec.Meta(ge=0, le=64)]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class TrainingSource(msgspec.Struct, frozen=True):
    """Training data that a set was compared with: how many images, and how many more could not be read."""

    source: str
    images: _Count
    unread: _Count = 0


class NearPair(msgspec.Struct, frozen=True):
    """An image of the set, the nearest training image with its source, and the bits between their hashes."""

    id: str
    train: str
    source: str
    distance: _Bits


class Leaks(msgspec.Struct, frozen=True):
    """What a file holds, see above."""

    dataset: str
    split: str | None
    source: str
    distance: _Bits
    train: list[TrainingSource]
    images: list[str]
    near: list[NearPair]


def write_leaks(path: Path, leaks: Leaks) -> None:
    """Writes a file, whole or not at all."""
    content = all_spelled(msgspec.to_builtins(leaks))
    write_text(path, seal(json.dumps(content, indent=1, ensure_ascii=False)) + "\n")


def read_leaks(path: str | os.PathLike[str]) -> dict[Path, Leaks]:
    """Returns the content of a file, or of all files in a folder, by path.

    Raises:
      InputError: there is none, or one is torn, damaged, of another form, or names an image that it did not compare.
    """
    path = Path(path)
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path}: no leaks file in it; `lrsclip leaks` makes one")
    return {file: _checked(read_sealed(file, Leaks), file) for file in files}


def leaks_of(
    found: Mapping[Path, Leaks], dataset: str, split: str | None, ids: Iterable[str], where: str
) -> Path | None:
    """Returns the file that is of some images, None where there is none.

    A file is of them if it compared these images and others of a data set of the same name, or else exactly these.

    Args:
      found: from `read_leaks`.
      dataset, split: of the images.
      ids: of the images.
      where: begins the errors.

    Raises:
      InputError: several files are of them, or one is of their data set and split, and has not compared all of them.
    """
    own = set(ids)
    named: list[Path] = []
    unnamed: list[Path] = []
    lacking: list[str] = []
    for path, leaks in found.items():
        compared, same_name = set(leaks.images), key(leaks.dataset) == key(dataset)
        if own <= compared and same_name:
            named.append(path)
        elif own == compared:
            unnamed.append(path)
        elif same_name and leaks.split in (None, split):
            missing = min(own - compared)
            lacking.append(
                f"{where}: {path} has not compared image {missing!r:.80} ({len(own - compared):,} of {len(own):,} "
                "images are missing there): run lrsclip leaks on the source that was embedded"
            )
    fitting = named or unnamed
    if len(fitting) > 1:
        raise InputError(f"{where}: {fitting[0]} and {fitting[1]} are both of it: give one of them by --leaks=FILE")
    if lacking and not fitting:
        raise InputError(lacking[0])
    return fitting[0] if fitting else None


def _checked(leaks: Leaks, path: Path) -> Leaks:
    compared, near = set(leaks.images), [pair.id for pair in leaks.near]
    if not compared:
        raise InputError(f"{path}: no image in `images`")
    if unknown := next((name for name in near if name not in compared), None):
        raise InputError(f"{path}: `near` has {unknown!r:.80}, which is not among `images`")
    if len(set(near)) < len(near):
        raise InputError(f"{path}: `near` has {Counter(near).most_common(1)[0][0]!r:.80} twice")
    return leaks
