"""The file of an image whose annotations name only its stem; its size is `data.rasters.size_of`'s."""

from __future__ import annotations

from pathlib import Path

from lrsclip_jax.data.images import SUFFIXES
from lrsclip_jax.data.rasters import size_of
from lrsclip_jax.errors import InputError

__all__ = ["of_stem", "size_of"]


def of_stem(root: Path, stem: str) -> Path:
    """Returns the image of that name and any known suffix in a folder; InputError where there is none."""
    for suffix in SUFFIXES:
        for path in (root / f"{stem}{suffix}", root / f"{stem}{suffix.upper()}"):
            if path.exists():
                return path
    raise InputError(f"{root / stem}: no image of that name ({', '.join(SUFFIXES)})")
