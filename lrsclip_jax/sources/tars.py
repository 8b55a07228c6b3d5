"""WebDataset tars: neighbouring members KEY.EXT are a sample. Images stay where they are."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lrsclip_jax.data.images import SUFFIXES
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Fault, Item, Member
from lrsclip_jax.sources.json_scan import decode, reason
from lrsclip_jax.sources.listing import split_of_folder, tar_files
from lrsclip_jax.sources.numbering import numbered
from lrsclip_jax.sources.row_keys import AskedKeys, RowReader, row_reader
from lrsclip_jax.sources.row_values import clean, clean_name
from lrsclip_jax.sources.source import Reading, Source, check_first

_TEXTS = frozenset("json txt cls class label long short caption captions text title".split())
_LONGEST = 1 << 26  # bytes of a text
_CLASS_NAMES = "classnames.txt"


def read_tars(path: Path, reading: Reading) -> Source:
    """Opens a tar, a folder of tars, or a pattern of them.

    Labels that are numbers become names by classnames.txt, where it lies next to the tars or one folder up. A sample
    that can't be used is a fault; a torn tar is an InputError when its turn comes.
    """
    tars = tar_files(path)
    text_keys = [key for name, key in reading.keys.chosen().items() if name != "image"]
    names = _class_names(tars[0].parent)
    reader = row_reader(reading.keys, path.parent, path.stem, reading.template)

    def stream() -> Iterator[Item | Fault]:
        asked = AskedKeys(reading.keys)
        for tar in tars:
            split = split_of_folder(tar.parent.name) if tar.parent != path else None
            for where, sample in samples(tar, text_keys):
                if isinstance(sample, dict):
                    asked.see(sample)
                yield _item(where, sample, split, names, reader)
        asked.check(path.stem)

    check_first(stream())
    return Source(path.stem, lambda: numbered(stream()))


def samples(path: Path, text_keys: Sequence[str]) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Yields (where, row) for each sample of a tar, or in place of the row the reason why it is none.

    A row is {extension: content} next to the keys of KEY.json. `image` is the sample's image, `id` its key unless
    KEY.json has one; KEY.txt is `short` too, unless KEY.json has one or `text_keys` names "txt". Contents are read for
    the usual extensions of texts and those in `text_keys`; others stay where they are, as Member.

    Raises InputError for a torn or compressed tar.
    """
    members: dict[str, Member | bytes | None] = {}  # None: a sparse file, whose holes take any memory
    key = ""
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # typeshed lacks it; it would hold every name
                if not member.isfile():
                    continue
                member_key, extension = _split(member.name)
                if members and member_key != key:
                    yield f"{clean_name(path.name)}, sample {clean_name(key)}", _row(key, members, text_keys)
                    members = {}
                key = member_key
                members[extension] = Member(path, member.name, member.offset_data, member.size)
                if member.issparse():
                    members[extension] = None
                elif (extension in _TEXTS or extension in text_keys) and member.size <= _LONGEST:
                    content = tar.extractfile(member)
                    assert content is not None  # as it is a file
                    members[extension] = content.read()
    except (tarfile.TarError, OSError, ValueError, LookupError, ArithmeticError, RecursionError, MemoryError) as error:
        last = f" after sample {clean_name(key)}" if members else ""
        said = clean(str(error))[:200] or type(error).__name__
        raise InputError(f"{path}: torn, or not an uncompressed tar{last} ({said})") from None
    if members:
        yield f"{clean_name(path.name)}, sample {clean_name(key)}", _row(key, members, text_keys)


def _row(key: str, members: Mapping[str, Member | bytes | None], text_keys: Sequence[str]) -> dict[str, Any] | str:
    row: dict[str, Any] = {"id": key}
    contents: dict[str, Any] = {}
    for extension, content in members.items():
        if content is None:
            return f".{extension}: a sparse file: pack it as it is (tar without --sparse)"
        try:
            contents[extension] = content.decode() if isinstance(content, bytes) else content
            if extension == "json":
                document = decode(contents.pop("json"))
                if not isinstance(document, dict):
                    return f".json: a {type(document).__name__} where an object is expected"
                row |= document
        except (ValueError, RecursionError) as error:
            return f".{extension}: {reason(error)}"
    if "txt" in contents and "txt" not in text_keys:
        row.setdefault("short", contents["txt"])
    # Next to KEY.png may lie KEY.mask.png: what has one suffix is the image.
    images = [name for name in contents if f".{name}" in SUFFIXES] or [
        name for name in contents if f".{name}".endswith(SUFFIXES)
    ]
    if len(images) > 1 and "." in images[0]:
        return f"several images ({', '.join(images)}): --image-key names one"
    return row | contents | ({"image": contents[images[0]]} if images else {})


def _item(
    where: str, sample: dict[str, Any] | str, split: str | None, names: Sequence[str], reader: RowReader
) -> Item | Fault:
    try:
        if isinstance(sample, str):
            raise InputError(sample)
        item = reader.item(sample, where)
        if names and item.label and item.label.isascii() and item.label.isdigit():
            if len(item.label) > 9 or int(item.label) >= len(names):
                raise InputError(f"class {item.label:.40}, where {_CLASS_NAMES} has {len(names)}")
            item = replace(item, label=names[int(item.label)])
        return replace(item, split=item.split or split) if split else item
    except InputError as error:
        return Fault(where, str(error))


def _class_names(folder: Path) -> list[str]:
    for file in (folder / _CLASS_NAMES, folder.parent / _CLASS_NAMES):
        if file.is_file():
            try:
                return [clean(line) for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"{file}: can't be read as UTF-8 text ({error})") from None
    return []


def _split(name: str) -> tuple[str, str]:
    """WebDataset's rule: the key ends at the first dot of the file's name."""
    folder, slash, file = name.removeprefix("./").rpartition("/")
    stem, _, extension = file.partition(".")
    return f"{folder}{slash}{stem}", extension.lower()
