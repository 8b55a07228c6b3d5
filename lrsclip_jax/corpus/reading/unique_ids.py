"""Ids that come again get a number, whatever the number of records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.numbering import SeenTexts


def numbered(records: Iterable[CorpusRecord | SetAside]) -> Iterator[CorpusRecord | SetAside]:
    """Gives ids that come again a number, "a.jpg#2"; for sources that are read one after the other, too.

    Holds a hash of each id, and the last number of those that came again.
    """
    seen = SeenTexts()
    last: dict[str, int] = {}
    try:
        for record in records:
            if isinstance(record, CorpusRecord):
                id, number = record.id, last.get(record.id, 1)
                while not seen.add(id):
                    number += 1
                    id = f"{record.id}#{number}"
                if number > 1:
                    last[record.id] = number
                    record = replace(record, id=id)
            yield record
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise InputError(f"{error.filename}: can't be read ({error.strerror})") from None
