"""What a set is made of: the rows that images.jsonl and texts.jsonl will hold, and how each image is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from lrsclip_jax.data.batches.pipeline import open_source as open_records
from lrsclip_jax.data.formats import TarMember
from lrsclip_jax.data.images import SUFFIXES, read_image
from lrsclip_jax.data.prepared.records import KINDS, Record, split_names
from lrsclip_jax.data.sources import Item, Keys, open_source
from lrsclip_jax.errors import InputError, nearest

Row = dict[str, Any]


@dataclass(frozen=True)
class Material:
    """What a source holds.

    Attributes:
      name: of the data set.
      split: the one split that was asked for, or None.
      images: rows of images.jsonl.
      texts: rows of texts.jsonl.
      read: gives the image of a row of `images`; InputError where it can't be read. Threads call it, about in order.
      scenes: of images that are windows, {name: {"height", "width", "file"}}.
    """

    name: str
    split: str | None
    images: Sequence[Row]
    texts: Sequence[Row]
    read: Callable[[int], Image.Image]
    scenes: dict[str, Row] = field(default_factory=dict)


def open_material(spec: str, keys: Keys | None = None, image_root: str | None = None) -> Material:
    """Opens what `spec` names, all of it or with ":SPLIT" one split.

    Prepared sets, procedural scenes (scenes:COUNT:SEED), all that `data.sources` knows, folders of images with or
    without class folders, and lists of texts (.txt, one a line). Raises InputError for anything else.
    """
    if spec.startswith("scenes:"):
        return _records("scenes", None, [(None, open_records(spec))])
    path, split = _path_and_split(spec)
    if not path.exists() and path.suffix != ".tar":
        raise InputError(f"{spec}: no such file or folder")
    if path.suffix == ".txt":
        return replace(_texts_alone(path), split=split)
    if (path / "dataset_info.json").exists():
        splits = [split] if split else split_names(path)
        return _records(path.name, split, [(name, open_records(f"{path}:{name}")) for name in splits])
    if path.is_dir() and not any(path.glob("*.tar")):
        if split:
            raise InputError(f"{spec}: a folder of images has no splits")
        return _folder(path)
    return _listed(path, split, keys, image_root)


def queries(path: str) -> list[Row]:
    """Returns a row of texts.jsonl for every line of a text file that holds something."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read as UTF-8 text ({error})") from None
    found = [{"text": line.strip(), "kind": "query"} for line in lines if line.strip()]
    if not found:
        raise InputError(f"{path}: not a single text in it")
    return found


def _path_and_split(spec: str) -> tuple[Path, str | None]:
    path = Path(spec).expanduser()
    folder, separator, split = spec.rpartition(":")
    if path.exists() or not separator or "/" in split:
        return path.absolute(), None
    return Path(folder).expanduser().absolute(), split


def _texts_alone(path: Path) -> Material:
    def read(row: int) -> Image.Image:
        raise IndexError(row)

    return Material(path.stem, None, [], queries(str(path)), read)


def _records(name: str, split: str | None, parts: Sequence[tuple[str | None, Sequence[Record]]]) -> Material:
    """Prepared records, split after split; ids that repeat get a number."""
    images: list[Row] = []
    texts: list[Row] = []
    places: list[tuple[Sequence[Record], int]] = []
    seen: dict[str, int] = {}
    for part, records in parts:
        for index in tqdm(range(len(records)), f"reading {name}", unit=" records", leave=False, disable=None, delay=1):
            record = records[index]
            number = seen[record.id] = seen.get(record.id, 0) + 1
            identity = record.id if number == 1 else f"{record.id}#{number}"
            images.append(_present(id=identity, label=record.label, split=part))
            texts += _captions(record, identity)
            places.append((records, index))

    def read(row: int) -> Image.Image:
        records, index = places[row]
        return read_image(records[index].image, name=images[row]["id"])

    return Material(name, split, images, texts, read)


def _listed(path: Path, split: str | None, keys: Keys | None, image_root: str | None) -> Material:
    items = list(open_source(str(path), keys, image_root))
    if split:
        known = sorted({item.split for item in items if item.split})
        items = [item for item in items if item.split == split]
        if not items:
            raise InputError(
                f"{path} has no split '{split}', it has {', '.join(known) or 'none'}{nearest(split, known)}"
            )
    if not items:
        raise InputError(f"{path}: no images in it")
    images = [_item_row(item) for item in items]
    texts = [text for item in items for text in _captions(item, item.id)]
    return Material(path.stem, split, images, texts, lambda row: _read_item(items[row]))


def _folder(path: Path) -> Material:
    """Class folders where every image lies one folder down; otherwise images without labels, at any depth."""
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"{path}: no images in it ({', '.join(SUFFIXES)})")
    parts = [file.relative_to(path).parts for file in files]
    classes = {part[0] for part in parts}
    labelled = len(classes) > 1 and all(len(part) == 2 for part in parts)
    images = [
        _present(id="/".join(part), label=part[0] if labelled else None, file=str(file))
        for part, file in zip(parts, files, strict=True)
    ]
    return Material(path.name, None, images, [], lambda row: read_image(files[row]))


def _item_row(item: Item) -> Row:
    file = str(item.image) if isinstance(item.image, Path) else None
    return _present(id=item.id, label=item.label, split=item.split, file=file)


def _read_item(item: Item) -> Image.Image:
    if isinstance(item.image, TarMember):
        try:
            return read_image(item.image.read_bytes(), name=str(item.image))
        except OSError as error:
            raise InputError(f"{item.image}: image can't be read ({error.strerror})") from None
    return read_image(item.image)


def _captions(of: Record | Item, image: str) -> list[Row]:
    return [{"text": text, "kind": kind, "image": image} for kind in KINDS for text in getattr(of, kind)]


def _present(**values: Any) -> Row:
    return {name: value for name, value in values.items() if value is not None}
