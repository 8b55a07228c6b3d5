"""Reads sources as a corpus wants them: items become records, faults are set aside with their reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from eval.facts.classes import words
from lrsclip_jax.corpus.reading.extracting import folder_for
from lrsclip_jax.corpus.reading.item_records import Origin, of_item
from lrsclip_jax.corpus.reading.renaming import renamed
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.corpus.rules.nouns import GROWS_TOGETHER
from lrsclip_jax.errors import InputError, nearest
from lrsclip_jax.sources.listing import tar_files
from lrsclip_jax.sources.named_kinds import NAMED_KINDS
from lrsclip_jax.sources.numbering import numbered
from lrsclip_jax.sources.row_keys import Keys

__all__ = ["options_of", "read_source", "with_unique_ids"]


def read_source(
    kind: str,
    path: str,
    *,
    name: str | None = None,
    image_root: str | None = None,
    licence: str | None = None,
    split: str | None = None,
    rename: Mapping[str, str] | None = None,
    extract_to: str | None = None,
    **options: Any,
) -> Iterator[CorpusRecord | SetAside]:
    """Reads a source in its own order.

    Args:
      kind: its format, one of `lrsclip_jax.sources.named_kinds.NAMED_KINDS`.
      path: of its file or folder.
      name: of the subset, where the rows themselves name none; by default the file's. All ids begin with it.
      image_root: folder that paths of images are relative to; by default that of the file or folder.
      licence, split: of records that bring none of their own.
      rename: classes of things and scenes that the corpus calls otherwise, such as {"Dead": "dead tree"}.
      extract_to: folder where images become files that lie inside the source's files.
      options: of the format, see its reader. `keys` may be a dict, such as {"short": "caption"}.

    Yields:
      Records, with ids of which no two are the same, and for every row or image that can't be used its reason, with
      the file and the line.

    Raises:
      InputError: an unknown kind or option, at once; what can't be read as a whole, when its turn comes.
    """
    if kind not in NAMED_KINDS:
        raise InputError(
            f"source kind '{kind}' is unknown; known: {', '.join(NAMED_KINDS)}{nearest(kind, NAMED_KINDS)}"
        )
    reader, place = NAMED_KINDS[kind], Path(path).expanduser().absolute()
    if not place.exists() and not tar_files(place):
        raise InputError(f"{path}: no such file or folder")
    root = Path(image_root).expanduser().absolute() if image_root else None
    if root and not root.is_dir():
        raise InputError(f"the image root {image_root} is no folder")
    given = options | ({"extract_to": extract_to} if extract_to else {})
    known = options_of(kind)
    for option in given:
        if option not in known:
            has = f"it has {', '.join(known)}" if known else "it has none of its own"
            raise InputError(f"source kind '{kind}' has no option '{option}', {has}{nearest(option, known)}")
    if kind == "prepared" and split:
        raise InputError(f"{path}: its records have splits of their own, the option only='{split}' reads one")
    if not reader.holds_images:
        root = root or (place if place.is_dir() else place.parent)
    folder = folder_for(extract_to) if extract_to else None
    origin = Origin(place, kind, name or place.stem, reader.texts, licence, split, folder)
    items = reader.read(place, root, origin.name, **_converted(kind, options))
    records = (of_item(found, origin) for found in items)
    return with_unique_ids(renamed(records, rename, path) if rename else records)


def with_unique_ids(records: Iterable[CorpusRecord | SetAside]) -> Iterator[CorpusRecord | SetAside]:
    """Gives ids that come again a number, "a.jpg#2"; for sources that are read one after the other, too."""
    try:
        yield from numbered(records, CorpusRecord)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise InputError(f"{error.filename}: can't be read ({error.strerror})") from None


def options_of(kind: str) -> tuple[str, ...]:
    """Returns the names of the options that a format has of its own."""
    reader = NAMED_KINDS[kind]
    return (*reader.options(), *(("extract_to",) if reader.holds_images else ()))


def _converted(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as readers take them."""
    converted = dict(options)
    if isinstance(keys := options.get("keys"), Mapping):
        known = [field.name for field in fields(Keys)]
        for name in keys:
            if name not in known:
                raise InputError(f"keys: '{name}' is none of {', '.join(known)}{nearest(name, known)}")
        converted["keys"] = Keys(**keys)
    if kind == "masks" and options.get("names"):
        # A patch of touching crowns is no tree, and what is connected in a mask becomes one thing.
        converted["names"] = {value: GROWS_TOGETHER.get(words(name), name) for value, name in options["names"].items()}
    return converted
