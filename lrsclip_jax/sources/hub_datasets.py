"""Data sets of the Hugging Face Hub by name, by its library `datasets`, which streams the splits that are asked for.

Each of their shards is packed as a WebDataset tar on this machine when its turn comes, next to the copies of
`data.fetching`, and read as those are. No code of theirs runs: from version 4 on the library refuses scripts.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from eval.whole import whole
from lrsclip_jax.data.fetching import PASSING, NoRoom, Passing, cache, wait_after
from lrsclip_jax.errors import InputError, nearest, optional
from lrsclip_jax.sources.remote_tars import Copies
from lrsclip_jax.sources.row_keys import USUAL, Keys
from lrsclip_jax.sources.row_values import clean
from lrsclip_jax.sources.source import Reading, Source
from lrsclip_jax.sources.tars import Shard, read_shards

SCHEME = "hf-datasets:"
_PACKED = 1  # how rows are packed: raised where that changes, so that older copies are left alone


class _Opened(NamedTuple):
    """A data set: its name, "owner/name" or a folder, its config, a version, and the streamed rows of each split."""

    name: str
    config: str
    version: str
    splits: Mapping[str, Any]


class _Part(NamedTuple):
    """A shard of a split.

    Attributes:
      rows: of it, streamed, images as their bytes.
      split, title: where its rows belong, and what messages call it.
      prefix: of ids of rows that have none.
      image: the column of images.
      owner: "owner/name" or a folder, whose files its rows may name.
      place: of its tar.
    """

    rows: Any
    split: str
    title: str
    prefix: str
    image: str
    owner: str
    place: Path


def read_hub_dataset(spec: str, reading: Reading) -> Source:
    """Opens "hf-datasets:owner/name[@revision][:config][:split]", or one of a folder in place of owner/name.

    One word behind the name is a config where there is one of that name, else a split; without a split all are read.
    The image is the column that `reading.keys` names, or the first one of images or bytes. Labels that are numbers
    become the names of their classes. A shard that can't be read is a fault, as in `read_shards`.

    Raises:
      InputError: no such data set, config, split or column; none of the first rows can be used.
      MissingPackage: `datasets` is not installed.
    """
    found = _opened(spec.removeprefix(SCHEME))
    parts = [part for split, rows in found.splits.items() for part in _parts(found, split, rows, reading.keys)]
    copies = Copies([functools.partial(_copied, part) for part in parts])
    shards = [
        Shard(part.title, functools.partial(copies.get, number), part.split, part.title)
        for number, part in enumerate(parts)
    ]
    keys = replace(reading.keys, image=None)  # the copies call it so
    source = read_shards(shards, Path(found.name).name, Path("/"), replace(reading, keys=keys))
    return replace(source, split=next(iter(found.splits)) if len(found.splits) == 1 else None)


def _opened(spec: str) -> _Opened:
    """Asks which configs and splits there are; nothing else is sent."""
    datasets = optional("datasets", "datasets")
    name, *words = [spec] if os.path.isdir(spec) else spec.split(":")
    name, _, revision = (name, "", "") if os.path.isdir(name) else name.partition("@")
    try:
        configs = datasets.get_dataset_config_names(name, revision=revision or None)
        usual = datasets.get_dataset_default_config_name(name, revision=revision or None)
        config, split = _chosen(name, words, configs, usual)
        splits = datasets.load_dataset(name, config, revision=revision or None, streaming=True)
        version = _version(name, revision)
    except InputError:
        raise
    except Exception as error:  # the library raises what the Hub, the network and the formats do
        raise InputError(f"{SCHEME}{name}: can't be opened ({_line(error)})") from None
    if split is None:
        return _Opened(name, config, version, splits)
    if split not in splits:
        raise InputError(f"{SCHEME}{name}: no split '{split}', it has {', '.join(splits)}{nearest(split, splits)}")
    return _Opened(name, config, version, {split: splits[split]})


def _chosen(name: str, words: list[str], configs: list[str], usual: str | None) -> tuple[str, str | None]:
    """The config and the split that the words behind a name mean."""
    if len(words) > 2 or not name or not all(words):
        raise InputError(f"{SCHEME}{':'.join([name, *words])}: {SCHEME}owner/name[:config][:split] is expected")
    config = words[0] if len(words) == 2 or (words and words[0] in configs) else usual
    split = words[-1] if words and (len(words) == 2 or config == usual != words[0]) else None
    told = f"it has {', '.join(configs)}"
    if config is None:
        raise InputError(f"{SCHEME}{name}: {told}: name one of them, {SCHEME}{name}:{configs[0]}")
    if config not in configs:
        raise InputError(f"{SCHEME}{name}: no config '{config}', {told}{nearest(config, configs)}")
    return config, split


def _version(name: str, revision: str) -> str:
    """The commit of a data set of the Hub; of a folder what its files are like."""
    if os.path.isdir(name):
        files = sorted(path for path in Path(name).rglob("*") if path.is_file())
        return json.dumps([(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files])
    from huggingface_hub import HfApi

    return HfApi().dataset_info(name, revision=revision or None).sha or ""


def _parts(found: _Opened, split: str, rows: Any, keys: Keys) -> Iterator[_Part]:
    title = f"{SCHEME}{found.name}:{found.config}:{split}"
    image = _image_column(rows, keys, title)
    count = rows.num_shards
    for number in range(count):
        mark = json.dumps([_PACKED, *found[:3], split, image, number, count])
        place = cache() / f"{hashlib.sha256(mark.encode()).hexdigest()[:32]}.tar"
        shard = rows.decode(False).shard(num_shards=count, index=number)
        prefix, said = (f"{split}/{number}", f"{title}, shard {number} of {count}") if count > 1 else (split, title)
        yield _Part(shard, split, said, prefix, image, found.name, place)


def _image_column(rows: Any, keys: Keys, title: str) -> str:
    """The column of images; InputError where there is none, and where another column that was asked for is missing."""
    try:
        kinds = dict(rows.features or next(iter(rows.decode(False).take(1)), {}))
    except Exception as error:
        raise InputError(f"{title}: can't be read ({_line(error)})") from None
    for name, key in keys.chosen().items():
        if key not in kinds and key.split(".")[0] not in kinds:
            told = f"it has {', '.join(kinds)}{nearest(key, kinds)}"
            raise InputError(f"{title}: no column '{key}' (--{name}-key), {told}")
    if keys.image:
        return keys.image
    images = [name for name, kind in kinds.items() if _is_image(kind)]
    usual = [name for name in USUAL["image"] if name in images]
    if not images:
        raise InputError(f"{title}: no column of images or bytes, it has {', '.join(kinds) or 'no rows'}")
    return (usual or images)[0]


def _is_image(kind: Any) -> bool:
    """Whether a feature, or the value of a row, is an image or bytes."""
    if isinstance(kind, bytes | dict):
        return isinstance(kind, bytes) or "bytes" in kind
    return type(kind).__name__ == "Image" or getattr(kind, "dtype", "") in ("binary", "large_binary")


def _copied(part: _Part) -> Path:
    """Returns the tar of a shard, which is made where it is missing; tries again where the network fails."""
    failures = 0
    while not part.place.exists():
        try:
            with whole(part.place) as partial, tarfile.open(partial, "w") as tar:
                _pack(part, tar)
        except Passing as failure:
            failures += 1
            wait_after(failure, failures, part.title)
        except InputError as error:
            raise NoRoom(str(error)) if isinstance(error.__cause__, OSError) else error from None
    return part.place


def _pack(part: _Part, tar: tarfile.TarFile) -> None:
    for number, row in enumerate(_rows(part)):
        image = _bytes_of(row.pop(part.image, None), part.owner)
        known = {"id": f"{part.prefix}/{number}"} if row.get("id") is None else {}
        _add(tar, f"{number:09d}.json", json.dumps({**row, **known}, default=_plain).encode())
        if image is not None:
            _add(tar, f"{number:09d}.image", image)


def _rows(part: _Part) -> Iterator[dict[str, Any]]:
    """The rows of a shard without other images and bytes, labels as words."""
    labels = {name: kind.names for name, kind in (part.rows.features or {}).items() if hasattr(kind, "int2str")}
    rows = iter(part.rows)
    while True:
        try:
            row = next(rows, None)
        except Exception as error:  # a network fails in the types of many libraries, and so do formats
            raise _failure(part.title, error) from None
        if row is None:
            return
        for name, names in labels.items():
            if isinstance(row.get(name), int):
                row[name] = names[row[name]] if 0 <= row[name] < len(names) else None
        yield {name: value for name, value in row.items() if name == part.image or not _is_image(value)}


def _failure(title: str, error: Exception) -> Exception:
    """Passing, or InputError where another try would do no better: a torn file, or one that is refused or not there."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    lasts = isinstance(error, ValueError | TypeError | LookupError | FileNotFoundError | PermissionError)
    if status is not None:
        lasts = status < 500 and status not in PASSING
    return InputError(f"{title}: can't be read ({_line(error)})") if lasts else Passing(_line(error))


def _bytes_of(value: Any, owner: str) -> bytes | None:
    """The bytes of an image: as they are, of the file of the data set that a row names, or of pixels as PNG."""
    if isinstance(value, dict):
        if value.get("bytes") is not None:
            return value["bytes"]
        return _file_of(value["path"], owner) if isinstance(value.get("path"), str) else None
    if hasattr(value, "save"):  # pixels, by Pillow
        file = io.BytesIO()
        value.save(file, "PNG")
        return file.getvalue()
    return value if isinstance(value, bytes) else None


def _file_of(path: str, owner: str) -> bytes | None:
    """The content of a file that belongs to the data set; a row names no other of this machine or another."""
    import fsspec

    outer = path.rpartition("::")[2]
    if os.path.isdir(owner):
        own = "://" not in outer and Path(outer).resolve().is_relative_to(Path(owner).resolve())
    else:
        own = outer.startswith((f"hf://datasets/{owner}/", f"hf://datasets/{owner}@")) and ".." not in outer.split("/")
    if not own:
        return None
    try:
        with fsspec.open(path, "rb") as file:
            return file.read()
    except Exception as error:
        failure = _failure(path, error)
        if isinstance(failure, Passing):
            raise failure from None
        return None


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _plain(value: Any) -> str | None:
    """What JSON has no type for: dates as text; bytes are left out."""
    return None if isinstance(value, bytes) else str(value)


def _line(error: Exception) -> str:
    return clean(str(error))[:300] or type(error).__name__
