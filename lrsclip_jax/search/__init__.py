"""An archive of imagery, searched by text: `lrsclip index` makes its index, `lrsclip search` asks it.

import lrsclip_jax.search
index = lrsclip_jax.search.open("archive.index")
hits = index.search(text="two planes next to a terminal", bbox=(11, 47, 12, 49), top=20)
for hit in hits:
    print(hit.cosine, hit.z, hit.scene, hit.place)
hits.write("found.gpkg")
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from lrsclip_jax.errors import InputError

if TYPE_CHECKING:
    from lrsclip_jax.search.engine import Engine
    from lrsclip_jax.search.index import Index

__all__ = ["open"]


def open(  # it shadows the builtin in this file alone
    path: str | os.PathLike[str], checkpoint: str | None = None, engine: str | Engine = "exact"
) -> Index:
    """Opens an index.

    Args:
      path: its folder.
      checkpoint: weights, where they have moved since the index was made; by default as the index names them.
      engine: what finds the highest scores: "exact", in process and equal to a comparison with every tile, or
        "milvus:URI", a Milvus cluster or a Milvus Lite file, see `search.milvus`.

    Raises:
      InputError: no index, an unfinished or torn one, or a package of the extra [search] is missing; one line.
    """
    try:
        from lrsclip_jax.search.index import Index  # imports Arrow, shapely and rasterio
    except ModuleNotFoundError as error:
        raise InputError(f"searching needs {error.name}: pip install 'lrsclip_jax[search]'") from None
    return Index(Path(path).expanduser(), checkpoint, engine)
