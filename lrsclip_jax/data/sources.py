"""What users point at, as one stream of items: an image that is not opened yet, with its texts.

`open_source` recognises JSON lists and lines, Karpathy's JSON, CSV and TSV, Parquet, WebDataset tars, folders of class
folders and the procedural scenes. Their rows become items by one rule, in `_item`, with keys that can be
renamed.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

from lrsclip_jax.data import formats
from lrsclip_jax.data.formats import Rows, TarMember
from lrsclip_jax.errors import InputError, nearest

TEMPLATE = "a satellite photo of {class}"  # LRSCLIP's one zero-shot prompt
_ABSENT = object()


class Drawing(NamedTuple):
    """A procedural scene that is still to be drawn (`lrsclip_jax.data.scenes`); its texts come with it."""

    seed: int
    index: int


@dataclass(frozen=True, slots=True)
class Item:
    """One captioned image of a source; `empty_texts` counts texts left out as they held nothing."""

    id: str
    source: str
    image: Path | TarMember | Drawing
    long: tuple[str, ...] = ()
    short: tuple[str, ...] = ()
    label: str | None = None
    licence: str | None = None
    split: str | None = None
    empty_texts: int = 0


@dataclass(frozen=True)
class Keys:
    """Under which key a row holds what; None stands for the format's usual one.

    "a.0.b" reaches into nested objects and lists. An image key "folder/file" joins the values of several keys
    to a path.
    """

    image: str | None = None
    long: str | None = None
    short: str | None = None
    id: str | None = None
    label: str | None = None
    licence: str | None = None
    split: str | None = None
    source: str | None = None

    def chosen(self) -> dict[str, str]:
        """Returns the keys that were given."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: key for name, key in given.items() if key is not None}


class Source:
    """A re-iterable stream of items in the source's own order; messages and records know it by `name`."""

    def __init__(self, name: str, items: Callable[[], Iterator[Item]]):
        self.name = name
        self._items = items

    def __iter__(self) -> Iterator[Item]:
        return self._items()


def open_source(
    spec: str, keys: Keys | None = None, image_root: str | Path | None = None, template: str = TEMPLATE
) -> Source:
    """Opens what `spec` names: a file, a folder, a pattern of tars ("train-*.tar"), or "scenes:COUNT[:SEED]".

    Paths of images are relative to `image_root`, by default the folder of the file that lists them.
    `template` makes the short text of an image in a class folder. Raises InputError for what can't be
    recognised, at once; errors in the rows (a wrong key, a value of the wrong type, torn JSON) come up with
    the row.
    """
    if spec.startswith("scenes:"):
        return _scenes(spec)
    keys = keys or Keys()
    path = Path(spec).expanduser().absolute()
    tars = _tars(path)
    if image_root and (tars or path.is_dir()):
        raise InputError(f"{spec} holds its images itself: leave out --image-root, which is for lists of images")
    if tars:
        text_keys = [key for name, key in keys.chosen().items() if name != "image"]
        return _source(path.stem, lambda: formats.tars(tars, text_keys), keys, path.parent, id="__key__")
    if not path.exists():
        raise InputError(f"{spec}: no such file or folder")
    if path.is_dir() and any(path.glob("*.parquet")):
        return _source(path.name, lambda: formats.parquet(path), keys, path)
    if path.is_dir():
        return _source(path.name, lambda: formats.class_folders(path, template), keys, path)
    root = _image_root(image_root, path)
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        rows = list(formats.table(path))
        source = _source(path.stem, lambda: iter(rows), keys, root, image="filepath", short="title")
        return Source(source.name, lambda: _merged(source))
    if suffix not in (".json", ".jsonl", ".ndjson"):
        raise InputError(f"{spec}: not recognised; {_KNOWN}")
    match formats.json_layout(path):
        case "lines":
            return _source(path.stem, lambda: formats.json_lines(path), keys, root)
        case "list":
            rows = list(formats.json_list(path))
            return _source(path.stem, lambda: iter(rows), keys, root)
        case _:
            rows = list(formats.karpathy(path))
            return _source(path.stem, lambda: iter(rows), keys, root, image="filename", short="sentences")


_KNOWN = (
    "a .json, .jsonl, .csv or .tsv file, a folder of Parquet files or of class folders, WebDataset .tar files (one, a "
    "folder of them, or a quoted pattern) or scenes:COUNT[:SEED] is expected"
)


def _tars(path: Path) -> list[Path]:
    if path.suffix == ".tar" and path.is_file():
        return [path]
    if path.is_dir():
        return sorted(path.glob("*.tar"))
    return sorted(map(Path, glob.glob(str(path)))) if path.suffix == ".tar" else []


def _image_root(image_root: str | Path | None, path: Path) -> Path:
    if image_root is None:
        return path.parent
    root = Path(image_root).expanduser().absolute()
    if not root.is_dir():
        raise InputError(f"the image root {image_root} is no folder")
    return root


def _scenes(spec: str) -> Source:
    from lrsclip_jax.data.prepared.procedural import SceneRecords  # not at the top: other sources need none of it

    count = len(SceneRecords.parse(spec))
    seed = int([*spec.split(":"), "0"][2])

    def items() -> Iterator[Item]:
        for index in range(count):
            yield Item(f"scene-{seed}-{index}", "scenes", Drawing(seed, index))

    return Source("scenes", items)


def _source(name: str, rows: Callable[[], Rows], keys: Keys, root: Path, **usual: str) -> Source:
    """Items from rows. `usual` are the format's own names of keys; other keys are called what they are."""
    chosen = keys.chosen()
    names = {field.name: field.name for field in fields(Keys)} | usual | chosen
    if names["long"] == names["short"]:  # a format's usual key of short texts, asked for as the long ones
        names["short"] = ""

    def items() -> Iterator[Item]:
        unseen, known = set(chosen), {}
        counts: dict[str, int] = {}
        for where, row in rows():
            if unseen:
                known |= dict.fromkeys(row)
                unseen = {name for name in unseen if _value(row, names[name], name == "image") is _ABSENT}
            item = _item(row, names, root, where, name)
            counts[item.id] = number = counts.get(item.id, 0) + 1
            yield item if number == 1 else replace(item, id=f"{item.id}#{number}")
        if unseen and known:
            missing = unseen.pop()
            raise InputError(
                f"{name}: no record has the key '{names[missing]}' that --{missing}-key names, keys found: "
                f"{', '.join(known)}{nearest(names[missing], known)}"
            )

    return Source(name, items)


def _item(row: dict, names: dict[str, str], root: Path, where: str, source: str) -> Item:
    image = _value(row, names["image"], path=True)
    texts = {kind: _value(row, names[kind]) for kind in ("long", "short")}
    found = f"keys found: {', '.join(row)}"
    if image is _ABSENT:
        hint = nearest(names["image"], row)
        raise InputError(f"{where}: no key '{names['image']}' of the image (--image-key), {found}{hint}")
    if all(value is _ABSENT for value in texts.values()):
        wanted = " or ".join(f"'{names[kind]}'" for kind in texts if names[kind])
        hint = nearest(names["long"], row) or nearest(names["short"], row)
        raise InputError(f"{where}: no key {wanted} of the texts (--long-key, --short-key), {found}{hint}")
    if not isinstance(image, str | TarMember) or not image:
        raise InputError(f"{where}: '{names['image']}' is {image!r:.60}, the path of an image is expected")
    cleaned = {kind: _texts(value, names[kind], where) for kind, value in texts.items()}
    kept = {kind: tuple(filter(None, values)) for kind, values in cleaned.items()}
    word = {name: _word(row, names[name], where) for name in ("id", "label", "licence", "split", "source")}
    return Item(
        id=word["id"] or clean(str(image)),
        source=word["source"] or source,
        image=root / image if isinstance(image, str) else image,
        label=word["label"],
        licence=word["licence"],
        split=word["split"],
        empty_texts=sum(len(cleaned[kind]) - len(kept[kind]) for kind in kept),
        **kept,
    )


def clean(text: str) -> str:
    """Returns the text on one line, without outer blanks; lone surrogates, unknown to UTF-8, become "?"."""
    return " ".join(text.splitlines()).strip().encode("utf-8", "replace").decode("utf-8")


def _texts(value, key: str, where: str) -> list[str]:
    values = value if isinstance(value, list) else [] if value is _ABSENT else [value]
    values = ["" if text is None else text for text in values]
    for text in values:
        if not isinstance(text, str):
            raise InputError(f"{where}: '{key}' holds {text!r:.60}, a text or a list of texts is expected")
    return [clean(text) for text in values]


def _word(row: dict, key: str, where: str) -> str | None:
    value = _value(row, key)
    if value is _ABSENT or value is None:
        return None
    if not isinstance(value, str | int):
        raise InputError(f"{where}: '{key}' is {value!r:.60}, a text or a number is expected")
    return clean(str(value)) or None


def _value(row: dict, key: str, path: bool = False):
    """The value under a key, a dotted path of keys, or for an image's path several keys joined by "/"."""
    if key in row:
        return row[key]
    if path and "/" in key:
        parts = [_value(row, part) for part in key.split("/")]
        return _ABSENT if _ABSENT in parts else "/".join(str(part) for part in parts)
    value = row
    for part in key.split("."):
        try:
            value = value[int(part) if isinstance(value, list) else part]
        except (KeyError, IndexError, TypeError, ValueError):
            return _ABSENT
    return value


def _merged(items: Iterable[Item]) -> Iterator[Item]:
    """One item an image, with the texts of all its rows: a table repeats an image's path for each caption."""
    merged: dict[Path, Item] = {}
    for item in items:
        first = merged.setdefault(item.image, item)
        if first is not item:
            merged[item.image] = replace(
                first,
                long=first.long + item.long,
                short=first.short + item.short,
                empty_texts=first.empty_texts + item.empty_texts,
            )
    return iter(merged.values())
