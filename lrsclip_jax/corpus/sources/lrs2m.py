"""JSON in the shape of LRS2M: an image with a long and a short text a row.

LRS2M's own keys were never published; here they are `image`, `long` and `short`, and can be renamed both ways.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.corpus.sources.origin import Origin
from lrsclip_jax.corpus.sources.rows import caption_records, json_lines, json_list, key_names
from lrsclip_jax.data.formats import json_layout


def read(path: Path, origin: Origin, keys: Mapping[str, str] | None = None) -> Iterator[CorpusRecord | SetAside]:
    """Reads a JSON list or JSON lines, streamed. `keys` renames them, such as {"long": "long_caption"}."""
    rows = json_lines(path) if json_layout(path) == "lines" else json_list(path)
    yield from caption_records(rows, key_names(keys), origin)
