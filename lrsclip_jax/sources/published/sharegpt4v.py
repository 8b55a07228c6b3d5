"""ShareGPT4V's validation: the first rows of share-captioner_coco_lcs_sam_1246k_1107.json (Chen et al., ECCV 2024).

A row is {"image": "sam/images/sa_545504.jpg", "conversations": [{"value": …}, {"value": TEXT}]}.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Fault, Item
from lrsclip_jax.sources.json_files import json_list
from lrsclip_jax.sources.published.long_text import file_in, rejoined
from lrsclip_jax.sources.row_keys import Keys, row_reader

FILE = "share-captioner_coco_lcs_sam_1246k_1107.json"


def read_1k(path: Path, root: Path | None, source: str) -> Iterator[Item | Fault]:
    """Reads the first 1,000 rows, which Long-CLIP and TULIP hold out; line ends become blanks.

    (beichenzbc/Long-CLIP, train/sharegpt4v.py, `share4v_val_dataset`)
    """
    return _first(1_000, path, root, source, lambda text: text.replace("\n", " "))


def read_10k(path: Path, root: Path | None, source: str) -> Iterator[Item | Fault]:
    """Reads the first 10,000 rows as LoTLIP and FLAIR do, the text `rejoined`.

    (wuw2019/LoTLIP, dataloaders/share4v.py)
    """
    return _first(10_000, path, root, source, rejoined)


def _first(
    count: int, path: Path, root: Path | None, source: str, text_of: Callable[[str], str]
) -> Iterator[Item | Fault]:
    file = file_in(path, FILE)
    reader = row_reader(Keys(image="image", long="text"), root or file.parent, source)
    for where, row in itertools.islice(json_list(file), count):
        try:
            yield row if isinstance(row, Fault) else reader.item({**row, "text": text_of(_answer(row))}, where)
        except InputError as error:
            yield Fault(where, str(error))


def _answer(row: dict[str, Any]) -> str:
    try:
        text = row["conversations"][1]["value"]
    except (KeyError, IndexError, TypeError):
        text = None
    if not isinstance(text, str):
        raise InputError("'conversations' with two turns of 'value' is expected")
    return text
