"""RS5M as published: WebDataset tars, or its CSV files next to a folder of images; its captions are short texts.

The tars pub11-train-0000.tar … rs3-val-0031.tar have samples of img_content, img_name and caption; the CSV files
pub11_train_intermediate.csv … the image's name in their first column and the caption in their second
(om-ai-lab/RS5M, dataloader.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Fault, Item, Member
from lrsclip_jax.sources.listing import tar_files
from lrsclip_jax.sources.lists import list_stream
from lrsclip_jax.sources.row_keys import Keys
from lrsclip_jax.sources.row_values import clean
from lrsclip_jax.sources.source import Reading
from lrsclip_jax.sources.tables import open_table
from lrsclip_jax.sources.tars import samples

_SPLIT = re.compile(r"(?:pub11|rs3)[-_](train|val)")


def read(path: Path, root: Path | None, source: str) -> Iterator[Item | Fault]:
    """Reads a CSV file, a tar, a folder of tars or a pattern of them. The file's name tells the split: train or val.

    An image in a tar is called by its img_name. Raises InputError for a torn tar, when its turn comes.
    """
    tars = tar_files(path)
    if not tars:
        table = open_table(path)
        if len(table.columns) < 2:
            raise InputError(f"{path}: two columns, the image's name and its caption, are expected")
        image, caption = table.columns[:2]
        for item in list_stream(table, source, root or path.parent, Reading(Keys(image=image, short=caption)))():
            yield replace(item, split=_split(path)) if isinstance(item, Item) else item
    for tar in tars:
        for where, sample in samples(tar, ("img_name", "caption")):
            yield _item(where, sample, source, _split(tar))


def _item(where: str, sample: dict[str, Any] | str, source: str, split: str | None) -> Item | Fault:
    if isinstance(sample, str):
        return Fault(where, sample)
    name, caption, content = (sample.get(key) for key in ("img_name", "caption", "img_content"))
    if not (name and caption and isinstance(content, Member)):
        found = ", ".join(key for key in sample if key != "id")
        return Fault(where, f"img_content, img_name and caption are expected, found {found}")
    id = clean(name)
    return Item(id, source, replace(content, name=id), short=(clean(caption),), split=split, where=where)


def _split(path: Path) -> str | None:
    named = _SPLIT.search(path.name)
    return named[1] if named else None
