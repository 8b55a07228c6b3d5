"""DCI, Densely Captioned Images: 7,805 images of SA-1B (Urbanek et al., CVPR 2024), whole, summarised, and Long-DCI.

The folder densely_captioned_images has splits.json, {"train": [NAME, …], "valid", "test"}, photos/, and NAME in
annotations/ with {"image", "short_caption", "extra_caption"}, in complete/ with {"summaries": {"base": [TEXT, …]}} too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NotRequired, TypedDict

from eval.file_names import named
from eval.reading import read_json
from lrsclip_jax.errors import InputError, nearest
from lrsclip_jax.sources.item import Fault, Item
from lrsclip_jax.sources.listing import passed_over
from lrsclip_jax.sources.lists import list_stream
from lrsclip_jax.sources.published.long_text import file_in, folder_of, rejoined
from lrsclip_jax.sources.row_keys import Keys
from lrsclip_jax.sources.row_values import clean, clean_name
from lrsclip_jax.sources.source import Reading
from lrsclip_jax.sources.tables import open_table

_BASE = "densely_captioned_images"


class _Annotation(TypedDict):
    image: str
    short_caption: str
    extra_caption: str
    summaries: NotRequired[dict[str, Any] | None]


def read(path: Path, root: Path | None, source: str, only: str | None = None) -> Iterator[Item | Fault]:
    """Reads all images, or `only` one split, in the order of splits.json; the short and the extra caption are one text.

    LoTLIP, FLAIR and DeBias-CLIP evaluate all 7,805 together, the text `rejoined` (wuw2019/LoTLIP,
    dataloaders/dci_retrieval.py). The texts of masks are no part of it.
    """
    base = folder_of(path, _BASE)
    for split, name in _names(base, only):
        yield _item(base, "annotations", name, root, source, split, _whole)


def read_summaries(path: Path, root: Path | None, source: str, only: str | None = None) -> Iterator[Item | Fault]:
    """Reads the first summary of each whole image, which fits CLIP's 77 tokens.

    The authors evaluate the split test so (facebookresearch/DCI, dataset/impl.py: the base images with their first
    captions). An image without summaries, which they pass over, is a fault.
    """
    base = folder_of(path, _BASE)
    for split, name in _names(base, only):
        yield _item(base, "complete", name, root, source, split, _summary)


def read_long(path: Path, root: Path | None, source: str) -> Iterator[Item | Fault]:
    """Reads Long-DCI, the extra captions alone that hold something, in the order of the files' names: 7,602 images.

    TULIP makes it so (ivonajdenkoska/tulip, open_clip/data_prep/dci_long_part.py), and publishes it as dci_long.csv of
    filepath and title with tabs between them, which is read as well.
    """
    if path.is_file():
        images = folder_of(root or path.parent, "photos")
        return list_stream(open_table(path), source, images, Reading(Keys(image="filepath", long="title")))()
    base = folder_of(path, _BASE)
    names = sorted(file.name for file in (base / "annotations").glob("*.json") if not passed_over(file.name))
    if not names:
        raise InputError(f"{path}: no annotations/*.json in it, nor is it dci_long.csv")
    items = (_item(base, "annotations", name, root, source, None, _extra) for name in names)
    return (item for item in items if isinstance(item, Fault) or item.long)


def _names(base: Path, only: str | None) -> Iterator[tuple[str, str]]:
    splits: dict[str, list[str]] = read_json(file_in(base, "splits.json"), dict[str, list[str]])
    if only is not None and only not in splits:
        raise InputError(f"{base}: no split '{only}', it has {', '.join(splits)}{nearest(only, splits)}")
    return ((split, name) for split, names in splits.items() if only in (None, split) for name in names)


def _item(
    base: Path,
    folder: str,
    name: str,
    root: Path | None,
    source: str,
    split: str | None,
    text_of: Callable[[_Annotation], str],
) -> Item | Fault:
    where = clean_name(f"{folder}/{name}")
    if PurePosixPath(name).name != name or name == "..":
        return Fault(where, "no name of a file")
    try:
        found: _Annotation = read_json(base / folder / named(name), _Annotation)
        text = clean(text_of(found))
    except InputError as error:
        return Fault(where, str(error))
    image = folder_of(root or base, "photos") / named(found["image"])
    return Item(clean_name(found["image"]), source, image, long=(text,) if text else (), split=split, where=where)


def _whole(found: _Annotation) -> str:
    return rejoined(f"{found['short_caption']}\n{found['extra_caption']}")


def _extra(found: _Annotation) -> str:
    return found["extra_caption"]


def _summary(found: _Annotation) -> str:
    given = (found.get("summaries") or {}).get("base")
    text = given[0] if isinstance(given, list) and given else given
    if not isinstance(text, str):
        raise InputError("no summaries of the whole image ('base')")
    return text
