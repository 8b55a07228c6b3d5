"""WebDataset tars: neighbouring members KEY.EXT are a sample. Images stay where they are.

A tar may lie on this machine, or be copied to it when its turn comes (`Shard`). Of several tars one that can't be read
is a fault, and the others are read.
"""

from __future__ import annotations

import functools
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from lrsclip_jax.data.fetching import NoRoom, Unreachable
from lrsclip_jax.data.images import SUFFIXES
from lrsclip_jax.errors import InputError, MissingPackage
from lrsclip_jax.sources.item import Fault, Fetched, Item, Member
from lrsclip_jax.sources.json_scan import decode, reason
from lrsclip_jax.sources.listing import split_of_folder, tar_files
from lrsclip_jax.sources.numbering import numbered
from lrsclip_jax.sources.row_keys import AskedKeys, RowReader, row_reader
from lrsclip_jax.sources.row_values import clean, clean_name
from lrsclip_jax.sources.source import Reading, Source, check_first

_TEXTS = frozenset("json txt cls class label long short caption captions text title".split())
_LONGEST = 1 << 26  # bytes of a text
_CLASS_NAMES = "classnames.txt"
_LOST = 3  # tars in a row that are out of reach


class Shard(NamedTuple):
    """A tar.

    Attributes:
      name: what messages call it, or the address it comes from.
      file: returns where it lies on this machine, the same every time; InputError where it can't be had.
      split: of its samples that name none.
      origin: an address where `file` is a copy, else "".
    """

    name: str
    file: Callable[[], Path]
    split: str | None = None
    origin: str = ""


def read_tars(path: Path, reading: Reading) -> Source:
    """Opens a tar, a folder of tars, or a pattern of them.

    Labels that are numbers become names by classnames.txt, where it lies next to the tars or one folder up. A sample
    that can't be used is a fault, and so is one of several tars that is torn; alone it is an InputError when its turn
    comes.
    """
    shards = [
        Shard(str(tar), functools.partial(Path, tar), split_of_folder(tar.parent.name) if tar.parent != path else None)
        for tar in tar_files(path)
    ]
    return read_shards(shards, path.stem, path.parent, reading, _class_names(Path(shards[0].name).parent))


def read_shards(
    shards: Sequence[Shard], name: str, root: Path, reading: Reading, class_names: Sequence[str] = ()
) -> Source:
    """Opens tars as one source; `root` is the folder of paths in them. InputError where none of the first can be used.

    Where three tars in a row are out of reach, reading ends: no other would fare better.
    """
    text_keys = [key for field, key in reading.keys.chosen().items() if field != "image"]
    reader = row_reader(reading.keys, root, name, reading.template)

    def stream() -> Iterator[Item | Fault]:
        asked = AskedKeys(reading.keys)
        lost = 0
        for shard in shards:
            try:
                for where, sample in samples(shard.file(), text_keys, shard.origin):
                    if isinstance(sample, dict):
                        asked.see(sample)
                    yield _item(where, sample, shard, class_names, reader)
            except (MissingPackage, NoRoom):
                raise
            except InputError as error:
                lost = lost + 1 if isinstance(error, Unreachable) else 0
                if len(shards) == 1 or lost == _LOST:
                    raise
                yield Fault(shard.name, str(error).removeprefix(f"{shard.name}: "))
            else:
                lost = 0
        asked.check(name)

    check_first(stream())
    return Source(name, lambda: numbered(stream()))


def samples(path: Path, text_keys: Sequence[str], origin: str = "") -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Yields (where, row) for each sample of a tar, or in place of the row the reason why it is none.

    A row is {extension: content} next to the keys of KEY.json. `image` is the sample's image, `id` its key unless
    KEY.json has one; KEY.txt is `short` too, unless KEY.json has one or `text_keys` names "txt". Contents are read for
    the usual extensions of texts and those in `text_keys`; others stay where they are, as Member, or where the tar was
    copied from `origin` as Fetched.

    Raises InputError for a torn or compressed tar.
    """
    name = clean_name(PurePosixPath(origin).name if origin else path.name)
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
                    yield f"{name}, sample {clean_name(key)}", _row(key, members, text_keys)
                    members = {}
                key = member_key
                place = path, member.name, member.offset_data, member.size
                members[extension] = Fetched(*place, origin) if origin else Member(*place)
                if member.issparse():
                    members[extension] = None
                elif (extension in _TEXTS or extension in text_keys) and member.size <= _LONGEST:
                    content = tar.extractfile(member)
                    assert content is not None  # as it is a file
                    members[extension] = content.read()
    except FileNotFoundError:
        raise InputError(f"{origin or path}: no such file") from None
    except (tarfile.TarError, OSError, ValueError, LookupError, ArithmeticError, RecursionError, MemoryError) as error:
        last = f" after sample {clean_name(key)}" if members else ""
        said = clean(str(error))[:200] or type(error).__name__
        raise InputError(f"{origin or path}: torn, or not an uncompressed tar{last} ({said})") from None
    if members:
        yield f"{name}, sample {clean_name(key)}", _row(key, members, text_keys)


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
    where: str, sample: dict[str, Any] | str, shard: Shard, names: Sequence[str], reader: RowReader
) -> Item | Fault:
    try:
        if isinstance(sample, str):
            raise InputError(sample)
        item = reader.item(sample, where)
        if shard.origin and isinstance(item.image, Path):
            raise InputError("its image is the path of a file, its bytes are expected")
        if names and item.label and item.label.isascii() and item.label.isdigit():
            if len(item.label) > 9 or int(item.label) >= len(names):
                raise InputError(f"class {item.label:.40}, where {_CLASS_NAMES} has {len(names)}")
            item = replace(item, label=names[int(item.label)])
        return replace(item, split=item.split or shard.split) if shard.split else item
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
