"""The first way of LRS2M: long texts of one set and short ones of another meet at the image that both are of."""

from __future__ import annotations

import functools
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from eval.file_names import spelled
from lrsclip_jax.corpus.hygiene.phash import phash
from lrsclip_jax.corpus.records import store
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside, Step
from lrsclip_jax.data.images import read_file, read_image
from lrsclip_jax.errors import InputError, nearest

STAGE = "merge"


def _content(record: CorpusRecord) -> str:
    try:
        return hashlib.blake2b(read_file(record.file), digest_size=16).hexdigest()
    except OSError as error:
        raise InputError(f"{record.image}: image can't be read ({error.strerror})") from None


KEYS: dict[str, Callable[[CorpusRecord], str]] = {
    "id": lambda record: record.id,
    "stem": lambda record: spelled(record.file.stem),
    "content": _content,
    "phash": lambda record: f"{phash(read_image(record.file)):016x}",
}


def merge(
    records: Iterable[CorpusRecord], others: Iterable[CorpusRecord], index: Path, key: str = "id"
) -> Iterator[CorpusRecord | SetAside]:
    """Yields the records that both sides have, with the texts, things and labels of both.

    Memory does not grow with either side: the texts of `others` are kept in a file.

    Args:
      records: whose order, ids, images and sources the result has.
      others: whose texts join theirs, after them.
      index: a file to make meanwhile; it is removed at the end.
      key: what both sides share: "id", "stem" (the image's file name without suffix), "content" (the bytes of the
        file) or "phash" (what it looks like, hashes being equal).

    Yields:
      Merged records; and set aside, those of either side without a partner and those whose image can't be read. Of
      several records of one key on a side, all of `others` give their texts, and each of `records` takes them.

    Raises:
      InputError: an unknown key.
    """
    if key not in KEYS:
        raise InputError(f"unknown merge key '{key}'{nearest(key, KEYS)}; known: {', '.join(KEYS)}")
    index.unlink(missing_ok=True)
    database = sqlite3.connect(index)
    try:
        database.execute("CREATE TABLE other (key TEXT, id TEXT, row TEXT, met INTEGER DEFAULT 0)")
        yield from _kept(database, others, KEYS[key])
        yield from _met(database, records, KEYS[key], key)
        for (identity,) in database.execute("SELECT id FROM other WHERE met = 0"):
            yield SetAside(identity, STAGE, f"the other side has no record of its {key}")
    finally:
        database.close()
        index.unlink(missing_ok=True)


def _kept(
    database: sqlite3.Connection, others: Iterable[CorpusRecord], key: Callable[[CorpusRecord], str]
) -> Iterator[SetAside]:
    for record in others:
        try:
            values = key(record), record.id, json.dumps(store.to_row(record))
        except InputError as error:
            yield SetAside(record.id, STAGE, str(error))
            continue
        database.execute("INSERT INTO other (key, id, row) VALUES (?, ?, ?)", values)
    database.execute("CREATE INDEX by_key ON other (key)")


def _met(
    database: sqlite3.Connection, records: Iterable[CorpusRecord], key: Callable[[CorpusRecord], str], name: str
) -> Iterator[CorpusRecord | SetAside]:
    for record in records:
        try:
            value = key(record)
        except InputError as error:
            yield SetAside(record.id, STAGE, str(error))
            continue
        rows = database.execute("SELECT row FROM other WHERE key = ? ORDER BY rowid", (value,)).fetchall()
        if not rows:
            yield SetAside(record.id, STAGE, f"the other side has no record of its {name}")
            continue
        database.execute("UPDATE other SET met = 1 WHERE key = ?", (value,))
        yield functools.reduce(
            functools.partial(_joined, name),
            (store.from_row(json.loads(row), "the other side") for (row,) in rows),
            record,
        )


def _joined(key: str, record: CorpusRecord, other: CorpusRecord) -> CorpusRecord:
    def both(name: str) -> tuple:
        return tuple(dict.fromkeys((*getattr(record, name), *getattr(other, name))))

    wrong, short = other.negative_of | record.negative_of, both("short")
    brought = "".join(f"{kind}, " for kind in ("long", "short") if getattr(other, kind))
    return replace(
        record,
        short=short,
        long=both("long"),
        things=both("things"),
        label=record.label or other.label,
        licence=_licence(record.licence, other.licence),
        provenance=(*record.provenance, *other.provenance, Step(STAGE, other.source, f"{brought}by {key}")),
        negative=tuple(wrong.get(text, "") for text in short) if wrong else (),
    )


def _licence(one: str | None, other: str | None) -> str | None:
    """The licence of the texts of both: unknown where either is."""
    if one is None or other is None:
        return None
    return one if one == other else f"{one} and {other}"
