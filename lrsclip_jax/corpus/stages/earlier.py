"""What another recipe has made in the folder of a corpus: set apart, whole, so that nothing is lost or mixed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

EARLIER = "earlier"
_STAGE = re.compile(r"(\d+)-.+")


def stages_of(folder: Path, first: int = 0) -> list[Path]:
    """Returns the folders of stages, "NUMBER-NAME", from the number `first` on, in order."""
    matches = ((_STAGE.fullmatch(path.name), path) for path in folder.glob("*-*"))
    found = sorted((int(match[1]), path) for match, path in matches if match and path.is_dir())
    return [path for at, path in found if at >= first]


def set_apart(out: Path, paths: Sequence[Path]) -> Path | None:
    """Moves what there is of `paths`, the last first, to a new folder `out/earlier/N`, and returns that one, if any.

    They keep their places relative to `out`. What others were made from goes last: where a kill comes between, the
    first one is still found to be of another recipe.
    """
    there = [path for path in paths if path.exists()]
    if not there:
        return None
    numbers = [int(path.name) for path in (out / EARLIER).glob("*") if path.name.isdecimal()]
    kept = out / EARLIER / str(1 + max(numbers, default=0))
    for path in reversed(there):
        place = kept / path.relative_to(out)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
    return kept
