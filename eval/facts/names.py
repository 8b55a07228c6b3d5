"""Names of files and folders under which the papers' data sets are published, and the data sets that they mean.

The table is names.json: by kind of material, for each data set of the papers' tables the names that stand for it. Names
are compared by letters and digits alone, "dataset_rsitmd" and "dataset-RSITMD" are one. "ucm" means UCM's captions
where images have captions, and UCM's classes where they have labels.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Literal

from eval.papers.published_tables import key

Kind = Literal["captions", "classes", "scenes"]
FILE = Path(__file__).with_name("names.json")


def meaning(name: str, kind: Kind) -> str | None:
    """Returns the data set, as the papers' tables call it, that a name stands for; None for a name in no table.

    Args:
      name: of a file without its suffix, of a folder, or of the data set itself.
      kind: of the material: images with captions, images in classes, or scenes with queries.
    """
    return _meanings(kind).get(key(name))


def says_nothing(name: str) -> bool:
    """Whether a name, such as "Images", would suit any data set."""
    return key(name) in _generic()


@functools.cache
def _meanings(kind: Kind) -> dict[str, str]:
    return {key(name): dataset for dataset, names in _table()[kind].items() for name in (*names, dataset)}


@functools.cache
def _generic() -> frozenset[str]:
    return frozenset(map(key, _table()["says nothing"]))


@functools.cache
def _table() -> dict:
    return json.loads(FILE.read_text(encoding="utf-8"))
