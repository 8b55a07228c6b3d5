"""The names that people give to splits, where nothing but a folder or a file says of which one an image is."""

from __future__ import annotations

import re

_SPLITS = frozenset("train training val valid validation dev test testing".split())
_SHARD = re.compile(r"(.+?)-\d{5}-of-\d{5}(?:-\w+)?")  # Hugging Face's


def split_of_folder(name: str) -> str | None:
    """Returns the split that a folder is called after, such as "train"; None for another name."""
    return name.lower() if name.lower() in _SPLITS else None


def split_of_shard(stem: str) -> str | None:
    """Returns the split in the name of a shard without its suffix, such as "train-00000-of-00002"."""
    found = _SHARD.fullmatch(stem)
    return found[1] if found and re.fullmatch(r"\w+", found[1]) else None
