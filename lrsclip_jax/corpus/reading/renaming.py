"""Renames classes: a corpus may call them otherwise than their source."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside, Step
from lrsclip_jax.errors import InputError, nearest

STAGE = "rename"


def renamed(
    records: Iterable[CorpusRecord | SetAside], names: Mapping[str, str], source: str
) -> Iterator[CorpusRecord | SetAside]:
    """Gives the classes of things and the labels of scenes their new names; the provenance has the old ones.

    Texts stay as they are. A warning at the end names each class of `names` that `source` never had, and the nearest
    that it had. Holds the classes. Raises InputError, at once, for a new name without a letter.
    """
    for old, new in names.items():
        if not isinstance(new, str) or not any(map(str.isalpha, new)):
            raise InputError(f"rename: '{old}' becomes {new!r}, a name in words is expected")
    return _renamed(records, names, source)


def _renamed(
    records: Iterable[CorpusRecord | SetAside], names: Mapping[str, str], source: str
) -> Iterator[CorpusRecord | SetAside]:
    met: set[str] = set()
    for record in records:
        if isinstance(record, CorpusRecord):
            classes = {thing.name for thing in record.things} | ({record.label} if record.label else set())
            met |= classes
            if changed := sorted(classes & names.keys()):
                record = replace(
                    record,
                    things=tuple(replace(thing, name=names.get(thing.name, thing.name)) for thing in record.things),
                    label=record.label and names.get(record.label, record.label),
                    provenance=(
                        *record.provenance,
                        Step(STAGE, detail=", ".join(f"{old} → {names[old]}" for old in changed)),
                    ),
                )
        yield record
    for old in names:
        if old not in met:
            logging.getLogger(__name__).warning(
                "%s: no class is called '%s', which was to become '%s'%s", source, old, names[old], nearest(old, met)
            )
