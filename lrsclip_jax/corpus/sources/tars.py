"""Which WebDataset tars a path names."""

from __future__ import annotations

import glob
from pathlib import Path


def tar_files(path: Path) -> list[Path]:
    """Returns the tars that a path names in order: one, those of a folder, or those of a pattern "train-*.tar"."""
    if path.is_dir():
        return sorted(path.glob("*.tar"))
    if path.suffix != ".tar":
        return []
    return [path] if path.is_file() else sorted(map(Path, glob.glob(str(path))))
