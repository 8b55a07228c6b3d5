"""RemoteCLIP's lists of Det-10, Seg-4 and Ret-3: CSV files with a row a caption, of an image's path and its title.

The column of the path is called filename in the published lists and filepath in ITRA, which trained from them with
tabs between columns; RSICD's list is in GB 18030 (ChenDelong1999/ITRA, itra/data/train_data.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.corpus.sources.captions import merged
from lrsclip_jax.corpus.sources.origin import Origin
from lrsclip_jax.corpus.sources.rows import caption_records, columns, key_names, table


def read(path: Path, origin: Origin, keys: Mapping[str, str] | None = None) -> Iterator[CorpusRecord | SetAside]:
    """Reads a list, held whole, as the five rows of an image become one record. `keys` as for captions."""
    image = "filepath" if "filepath" in columns(path) else "filename"
    yield from merged(caption_records(table(path), key_names(keys, image=image, short="title"), origin))
