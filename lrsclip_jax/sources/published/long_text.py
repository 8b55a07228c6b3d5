"""What the public evaluations of long texts have in common: where images lie, and how texts are taken apart."""

from __future__ import annotations

import re
from pathlib import Path

from lrsclip_jax.errors import InputError

_ENDS = re.compile(r"\n|</s>|[.]")


def rejoined(text: str) -> str:
    """Returns a text taken apart at full stops and line ends and joined again by ". ", without a stop at its end.

    So DCI, IIW and ShareGPT4V are evaluated by LoTLIP and FLAIR (wuw2019/LoTLIP, dataloaders/dci_retrieval.py,
    `split_caption`; ExplainableML/flair, src/flair/data.py). A number such as 3.5 becomes "3. 5".
    """
    return ". ".join(filter(None, (part.strip() for part in _ENDS.split(text))))


def folder_of(root: Path, *names: str) -> Path:
    """Returns the first of the folders called `names` that a root has, or else the root itself."""
    return next((root / name for name in names if (root / name).is_dir()), root)


def file_in(path: Path, name: str) -> Path:
    """Returns `path` where it is a file, or the file called `name` in it; InputError where that is missing."""
    if path.is_file():
        return path
    if not (path / name).is_file():
        raise InputError(f"{path}: no {name} in it" if path.is_dir() else f"{path}: no such file or folder")
    return path / name
