"""The file of an image whose annotations name only its stem."""

from __future__ import annotations

import os
from pathlib import Path

from lrsclip_jax.data.images import SUFFIXES
from lrsclip_jax.errors import InputError


def of_stem(root: Path, stem: str) -> Path:
    """Returns the image of that name and any known suffix in a folder; InputError where there is none."""
    for suffix in SUFFIXES:
        for path in (root / f"{stem}{suffix}", root / f"{stem}{suffix.upper()}"):
            if os.path.isfile(path):  # False, too, for a name that no file can have
                return path
    raise InputError(f"{root / stem}: no image of that name ({', '.join(SUFFIXES)})")
