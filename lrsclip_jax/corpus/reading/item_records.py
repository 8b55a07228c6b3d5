"""How what a source yields becomes a record of a corpus: an item gets its id and provenance, a fault is set aside."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from eval.file_names import spelled
from lrsclip_jax.corpus.reading.extracting import extracted
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside, Step
from lrsclip_jax.data.images import size_of
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Entry, Fault, Item
from lrsclip_jax.sources.row_values import clean_name

STAGE = "read"


class Origin(NamedTuple):
    """A source as it was named.

    Attributes:
      path: of its file or folder.
      kind: the format.
      name: of the subset; ids begin with it.
      texts: whether every item needs a text or a label.
      licence, split: of records that bring none of their own.
      folder: where images become files that lie inside other files; None: nowhere.
    """

    path: Path
    kind: str
    name: str
    texts: bool
    licence: str | None = None
    split: str | None = None
    folder: Path | None = None


def of_item(found: Item | Fault, origin: Origin) -> CorpusRecord | SetAside:
    """Returns the record of an item, or the place and reason of a fault as what is set aside.

    The id is the origin's name and the item's id, that of a fault without an id its place. An image inside another file
    becomes a file in the origin's folder. Raises InputError where that is needed and there is no folder.
    """
    if isinstance(found, Fault):
        return _set_aside(origin, found.id or found.where, f"{found.where}: {found.reason}")
    image = found.image
    if not isinstance(image, Path) and origin.folder is None:
        raise InputError(f"{origin.path}: the option extract_to is needed, a folder where its images become files")
    try:
        if not isinstance(image, Path):
            assert origin.folder is not None  # see above
            image = extracted(found, origin.folder, origin.path.name)
        if origin.texts and not (found.short or found.long or found.label):
            raise InputError("neither a text nor a label")
        size = size_of(image) if isinstance(found.image, Entry) else (found.width, found.height)
    except InputError as error:
        return _set_aside(origin, found.id, f"{found.where}: {error}")
    return CorpusRecord(
        id=f"{spelled(origin.name)}/{found.id}",
        image=spelled(str(image)),
        source=spelled(found.source),
        short=found.short,
        long=found.long,
        things=found.things or (),
        label=found.label,
        width=size[0],
        height=size[1],
        split=found.split or origin.split,
        licence=found.licence or origin.licence,
        provenance=(Step(STAGE, origin.kind, clean_name("; ".join(filter(None, (found.where, found.note))))),),
        negative=found.negative,
    )


def _set_aside(origin: Origin, id: str, reason: str) -> SetAside:
    return SetAside(clean_name(f"{origin.name}/{id}"), STAGE, clean_name(reason))
