"""How what a source yields becomes a record of a corpus: an item gets its id and provenance, a fault is set aside."""

from __future__ import annotations

from typing import NamedTuple

from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside, Step
from lrsclip_jax.sources.item import Fault, Item

STAGE = "read"


class Origin(NamedTuple):
    """A source as it was named.

    Attributes:
      kind: the format.
      name: of the subset; ids begin with it.
      licence, split: of records that bring none of their own.
    """

    kind: str
    name: str
    licence: str | None = None
    split: str | None = None


def of_item(found: Item | Fault, origin: Origin) -> CorpusRecord | SetAside:
    """Returns the record of an item, or what is set aside with the place and the reason of a fault.

    The id is the origin's name and the item's id; that of a fault without an id, its place.
    """
    if isinstance(found, Fault):
        return SetAside(f"{origin.name}/{found.id or found.where}", STAGE, f"{found.where}: {found.reason}")
    id = f"{origin.name}/{found.id}"
    image = str(found.image)
    if _surrogates(image):
        return SetAside(id, STAGE, f"{found.where or found.id}: the name of its file is not UTF-8: rename the file")
    return CorpusRecord(
        id=id,
        image=image,
        source=found.source,
        short=found.short,
        long=found.long,
        things=found.things or (),
        label=found.label,
        width=found.width,
        height=found.height,
        split=found.split or origin.split,
        licence=found.licence or origin.licence,
        provenance=(Step(STAGE, origin.kind, "; ".join(filter(None, (found.where, found.note)))),),
    )


def _surrogates(text: str) -> bool:
    """Whether a text has bytes in it that are no UTF-8, as Python keeps those of file names."""
    return any("\ud800" <= character <= "\udfff" for character in text)
