"""IIW, ImageInWords: 612 images described by people in 217 words in the mean (Garg et al., EMNLP 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from eval.file_names import named
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Fault, Item
from lrsclip_jax.sources.json_files import json_lines
from lrsclip_jax.sources.published.long_text import folder_of, rejoined
from lrsclip_jax.sources.row_values import clean, clean_name

# Its parts in the order of the evaluations, and the folders of their images there and with their authors.
_PARTS = {"DOCCI_Test": ("docci", "images"), "IIW-400": ("docci_aar", "images_aar"), "DCI_Test": ("dci", "photos")}
_FILE = "data.jsonl"


def read(path: Path, root: Path | None, source: str) -> Iterator[Item | Fault]:
    """Reads PART/data.jsonl of google/imageinwords, or one such file; parts are splits: DOCCI_Test, IIW_400, DCI_Test.

    LoTLIP and FLAIR evaluate all three together, with IIW's own text of a row, `rejoined`; images lie in docci/,
    docci_aar/ and dci/ (wuw2019/LoTLIP, dataloaders/iiw_retrieval.py). The first is called after DOCCI's split test
    there even where it is one of train (dataloaders/imageinwords/data_preprocess.py).

    Raises InputError where no part is there.
    """
    files = {path.parent.name: path} if path.is_file() else {part: path / part / _FILE for part in _PARTS}
    found = {part: file for part, file in files.items() if part in _PARTS and file.is_file()}
    if not found:
        raise InputError(f"{path}: none of {', '.join(f'{part}/{_FILE}' for part in _PARTS)} is there")
    for part, file in found.items():
        images = folder_of(root or (path if path.is_dir() else path.parent), *_PARTS[part])
        for where, row in json_lines(file):
            yield row if isinstance(row, Fault) else _item(row, f"{part}/{where}", images, source, part)


def _item(row: dict, where: str, images: Path, source: str, part: str) -> Item | Fault:
    name, text = row.get("image", row.get("image/key")), row.get("IIW")
    if not isinstance(name, str) or not isinstance(text, str):
        return Fault(where, "'image' or 'image/key', and the text 'IIW', are expected")
    name = name if ".jpg" in name else f"{name}.jpg"
    image = images / named(name)
    if not image.exists() and (renamed := images / named(name.replace("test", "train"))).exists():
        image = renamed
    text = clean(rejoined(text))
    split = part.replace("-", "_")  # as names of splits are in prepared sets
    return Item(clean_name(f"{part}/{name}"), source, image, long=(text,) if text else (), split=split, where=where)
