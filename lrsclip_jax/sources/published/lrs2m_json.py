"""JSON in the shape of LRS2M: an image with a long and a short text a row, as a list or a row a line.

LRS2M's own keys were never published; here they are `image`, `long` and `short`, and can be renamed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lrsclip_jax.sources.item import Fault, Item
from lrsclip_jax.sources.json_kinds import read_json
from lrsclip_jax.sources.published.opened import items_of
from lrsclip_jax.sources.row_keys import Keys
from lrsclip_jax.sources.source import Reading


def read(path: Path, root: Path, source: str, keys: Keys | None = None) -> Iterator[Item | Fault]:
    """Reads the rows. `keys` say where they hold what, such as Keys(long="long_caption")."""
    return items_of(read_json(path, Reading(keys or Keys(), root)), source)
