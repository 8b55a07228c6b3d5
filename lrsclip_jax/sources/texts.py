"""Lists of texts without images."""

from __future__ import annotations

from pathlib import Path

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.row_values import clean
from lrsclip_jax.sources.source import Query, Source
from lrsclip_jax.sources.text_encoding import open_text


def read_texts(path: Path) -> Source:
    """Opens a text file: every line that holds something is a query. InputError where none does."""
    text = open_text(path)
    with text.open() as file:
        lines = [clean(line) for line in file.read().decode("utf-8", "replace").splitlines()]
    queries = tuple(Query(line) for line in lines if line)
    if not queries:
        raise InputError(f"{path}: not a single text in it")
    return Source(path.stem, lambda: iter(()), notes=(text.note,) if text.note else (), queries=queries)
