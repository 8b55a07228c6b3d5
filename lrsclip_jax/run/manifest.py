"""The manifest of a folder: its files and their sizes, written once it is complete, so that later damage shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from etils import epath

from eval.whole import write_text

NAME = "manifest.json"


def write(folder: epath.Path, parts: Sequence[str]) -> None:
    """Writes the size in bytes of every file below the sub-folders `parts`, by its path inside the folder."""
    sizes = {
        (top / name).relative_to(folder).as_posix(): (top / name).stat().length
        for part in parts
        for top, _, names in (folder / part).walk()
        for name in names
    }
    write_text(folder / NAME, json.dumps(sizes, indent=0, sort_keys=True) + "\n")


def damage(folder: epath.Path) -> str | None:
    """Returns which file is missing or cut off, or None; a folder without a manifest counts as whole."""
    manifest = folder / NAME
    if not manifest.exists():
        return None
    try:
        sizes = json.loads(manifest.read_text())
    except json.JSONDecodeError:
        return f"{NAME} is cut off"

    def defect(name: str) -> str | None:
        try:
            found = (folder / name).stat().length
        except FileNotFoundError:
            return f"{name} is missing"
        return None if found == sizes[name] else f"{name} has {found} bytes of {sizes[name]}"

    with ThreadPoolExecutor(16) as pool:  # on gs:// every size is a request
        return next(filter(None, pool.map(defect, sizes)), None)
