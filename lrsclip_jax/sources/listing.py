"""What lies in a folder, without the files that systems and programs leave there; and the splits that names tell."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from lrsclip_jax.data.images import SUFFIXES
from lrsclip_jax.errors import InputError

Parts = tuple[str, ...]

_PASSED_OVER = frozenset(("__MACOSX", "@eaDir", "#recycle", "@Recycle", "$RECYCLE.BIN", "System Volume Information"))
_SPLITS = frozenset(("train", "training", "val", "valid", "validation", "dev", "test", "testing"))
_BRACES = re.compile(r"\{(?:(\d{1,9})\.\.(\d{1,9})|([^{}]*,[^{}]*))\}")
_MOST_NAMES = 100_000
_SHARD = re.compile(r"(\w+?)-\d{5}-of-\d{5}(?:-\w+)?")  # Hugging Face's


def passed_over(name: str) -> bool:
    """Whether a file or folder is hidden, or was left by a system: an archive of macOS, a NAS, a recycle bin."""
    return name.startswith(".") or name in _PASSED_OVER


def images_below(folder: Path) -> Iterator[Parts]:
    """Yields the images below a folder at any depth, as the parts of their paths below it, in the order of the parts.

    Links to folders are followed, unless they lead up again. Raises InputError for a folder that can't be read.
    """
    yield from _images_below(folder, (), frozenset())


def split_of_folder(name: str) -> str | None:
    """Returns the split that a folder is called after, such as "train"; None for another name."""
    return name.lower() if name.lower() in _SPLITS else None


def split_of_shard(stem: str) -> str | None:
    """Returns the split in the name of a shard without its suffix, such as "train-00000-of-00002"."""
    found = _SHARD.fullmatch(stem)
    return found and found[1]


def tar_files(path: Path) -> list[Path]:
    """Returns the tars that a path names, in order: one, those of a folder, or those of a pattern "train-*.tar".

    Of a folder without tars those in its folders of splits, such as train/0.tar (CLIP_benchmark). Of a pattern with
    braces, "train-{000..099}.tar", all that it says, where one of them is there.
    """
    if os.path.isdir(path):
        return _matching(path, "*.tar") or [
            tar for tar in _matching(path, "*/*.tar") if split_of_folder(tar.parent.name)
        ]
    if path.suffix != ".tar":
        return []
    if os.path.isfile(path):
        return [path]
    said = [Path(name) for name in expanded_braces(str(path))]
    if len(said) > 1:
        return said if any(map(os.path.isfile, said)) else []
    return sorted(map(Path, glob.glob(str(path))))


def expanded_braces(pattern: str) -> list[str]:
    """Returns what a pattern with braces says, as a shell has it: "x-{08..10}.tar", "{train,val}.tar", any of them.

    Raises InputError where that is more than 100,000 names, or a range runs backwards.
    """
    found = _BRACES.search(pattern)
    if not found:
        return [pattern]
    first, last, listed = found.groups()
    ends = expanded_braces(pattern[found.end() :])
    count = int(last) - int(first) + 1 if listed is None else listed.count(",") + 1
    if count < 1:
        raise InputError(f"{pattern}: {found[0]} runs backwards")
    if count * len(ends) > _MOST_NAMES:
        raise InputError(f"{pattern}: over {_MOST_NAMES:,} names")
    if listed is None:
        padded = any(number[0] == "0" and len(number) > 1 for number in (first, last))
        width = max(len(first), len(last)) if padded else 0
        inside = [f"{number:0{width}}" for number in range(int(first), int(last) + 1)]
    else:
        inside = listed.split(",")
    return [f"{pattern[: found.start()]}{one}{end}" for one in inside for end in ends]


def parquet_files(path: Path) -> list[Path]:
    """Returns the Parquet files that a path names, in order: one, or those of a folder.

    Of a folder without any those in "data", where Hugging Face keeps shards, or in its folders of splits.
    """
    if not os.path.isdir(path):
        return [path] if path.suffix.lower() == ".parquet" and os.path.isfile(path) else []
    within = _matching(path, "*/*.parquet")
    return _matching(path, "*.parquet") or [
        file for file in within if file.parent.name == "data" or split_of_folder(file.parent.name)
    ]


def metadata_files(path: Path) -> list[Path]:
    """Returns the lists of Hugging Face's imagefolder in a folder, or else in its subfolders (of splits), in order."""
    if os.path.isdir(path):
        for depth in ("", "*/", "*/*/"):
            found = [*_matching(path, f"{depth}metadata.jsonl"), *_matching(path, f"{depth}metadata.csv")]
            if found:
                return sorted(found)
    return []


def _matching(folder: Path, pattern: str) -> list[Path]:
    found = (path for path in folder.glob(pattern) if not any(map(passed_over, path.relative_to(folder).parts)))
    return sorted(path for path in found if path.is_file())


def _images_below(folder: Path, parts: Parts, above: frozenset[tuple[int, int]]) -> Iterator[Parts]:
    try:
        with os.scandir(folder) as entries:
            names = sorted((entry.name, entry.is_dir()) for entry in entries if not passed_over(entry.name))
        here = os.stat(folder)
    except OSError as error:
        raise InputError(f"{folder}: can't be read ({error.strerror})") from None
    if (here.st_dev, here.st_ino) in above:
        return
    above |= {(here.st_dev, here.st_ino)}
    for name, is_folder in names:
        if is_folder:
            yield from _images_below(folder / name, (*parts, name), above)
        elif name.lower().endswith(SUFFIXES):
            yield (*parts, name)
