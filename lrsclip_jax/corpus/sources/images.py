"""Images without texts, for a generator to describe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.corpus.sources.origin import Origin
from lrsclip_jax.data.images import SUFFIXES
from lrsclip_jax.errors import InputError


def read(path: Path, origin: Origin) -> Iterator[CorpusRecord | SetAside]:
    """Yields all images below a folder in the order of their paths, which are held in memory; none is opened."""
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"{path}: no images below it ({', '.join(SUFFIXES)})")
    for file in files:
        key = file.relative_to(path).as_posix()
        yield CorpusRecord(
            id=origin.id(key),
            image=str(file),
            source=origin.name,
            split=origin.split,
            licence=origin.licence,
            provenance=(origin.step(key),),
        )
