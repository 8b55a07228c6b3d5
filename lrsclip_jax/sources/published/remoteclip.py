"""RemoteCLIP's lists of Det-10, Seg-4 and Ret-3: CSV files with a row a caption, of an image's path and its title.

The column of the path is called filename in the published lists and filepath in ITRA, which trained from them with
tabs between columns; RSICD's list is in GB 18030 (ChenDelong1999/ITRA, itra/data/train_data.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lrsclip_jax.sources.item import Fault, Item
from lrsclip_jax.sources.published.opened import items_of
from lrsclip_jax.sources.row_keys import Keys
from lrsclip_jax.sources.source import Reading
from lrsclip_jax.sources.tables import read_table


def read(path: Path, root: Path, source: str, keys: Keys | None = None) -> Iterator[Item | Fault]:
    """Reads a list: the five rows of an image become one item. `keys` say where rows hold what."""
    return items_of(read_table(path, Reading(keys or Keys(), root)), source)
