"""The files in which people keep captioned images, read as rows: dictionaries, with where each one stands.

Every reader is a generator over (where, row) in file order. JSON lines and tars are streamed, JSON documents
and CSV files are loaded whole. What the keys of a row mean is decided in `sources`.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import json
import logging
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.facts import classes
from lrsclip_jax.data.images import SUFFIXES
from lrsclip_jax.errors import InputError

Rows = Iterator[tuple[str, dict]]


@dataclass(frozen=True)
class TarMember:
    """A file inside an uncompressed tar: read by its offset, without unpacking anything."""

    tar: Path
    name: str
    offset: int
    size: int

    def read_bytes(self) -> bytes:
        with open(self.tar, "rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) < self.size:
            raise OSError(0, f"{self.tar} is torn")
        return data

    def __str__(self) -> str:
        return f"{self.tar}/{self.name}"


def json_layout(path: Path) -> str:
    """Returns "lines", "list" or "karpathy" ({"images": […]}) for a .json or .jsonl file."""
    with open(path, "rb") as file:
        first = next((line for line in file if line.strip()), b"").lstrip(codecs.BOM_UTF8 + b" \t\r\n")
        rest = next((line for line in file if line.strip()), b"")
    if first.startswith(b"["):
        return "list"
    try:
        row = json.loads(first)
    except ValueError:
        return "karpathy" if path.suffix.lower() == ".json" else "lines"
    alone = isinstance(row, dict) and isinstance(row.get("images"), list) and not rest
    return "karpathy" if alone else "lines"


def json_lines(path: Path) -> Rows:
    """One JSON object a line; blank lines are skipped."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                where = f"{path.name}, line {number}"
                yield where, _object(_json(line, where), where)


def json_list(path: Path) -> Rows:
    """A JSON list of objects."""
    for number, row in enumerate(_json(path.read_bytes(), path.name), 1):
        where = f"{path.name}, record {number}"
        yield where, _object(row, where)


def karpathy(path: Path) -> Rows:
    """{"images": [{"filename", "split", "sentences": [{"raw"}, …]}, …]}: `sentences` become their raw texts.

    COCO's variant keeps the folder in `filepath`: it is joined to `filename`.
    """
    document = _json(path.read_bytes(), path.name)
    images = document.get("images") if isinstance(document, dict) else None
    if not isinstance(images, list):
        raise InputError(f"{path}: neither a list of records nor JSON lines nor an object with a list 'images'")
    for number, row in enumerate(images, 1):
        where = f"{path.name}, image {number}"
        row = dict(_object(row, where))
        try:
            row["sentences"] = [sentence["raw"] for sentence in row["sentences"]]
        except (KeyError, TypeError):
            raise InputError(f"{where}: no list 'sentences' of objects with a key 'raw'") from None
        if "filepath" in row and "filename" in row:
            row["filename"] = f"{row['filepath']}/{row['filename']}"
        yield where, row


def table(path: Path) -> Rows:
    """A CSV or TSV file with a header, in UTF-8, or else with a warning, in GB 18030 (RSICD's lists)."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            text = data.decode("gb18030")
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: neither UTF-8 nor GB 18030 text (byte {error.start})") from None
        logging.getLogger(__name__).warning("%s is not UTF-8: read as GB 18030", path)
    header = text.split("\n", 1)[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in header else ",")
    try:
        for row in reader:
            where = f"{path.name}, line {reader.line_num}"
            if None in row:
                raise InputError(f"{where}: more columns than the header has ({', '.join(reader.fieldnames)})")
            yield where, row
    except csv.Error as error:
        raise InputError(f"{path.name}, line {reader.line_num}: {error}") from None


def parquet(folder: Path) -> Rows:
    """The rows of a folder of Parquet files in order, such as a corpus of `lrsclip_jax.corpus`."""
    import pyarrow.parquet as pq  # other sources need none of it
    from pyarrow import ArrowException

    for path in sorted(folder.glob("*.parquet")):
        try:
            with pq.ParquetFile(path) as file:
                rows = itertools.chain.from_iterable(batch.to_pylist() for batch in file.iter_batches())
                for number, row in enumerate(rows, 1):
                    yield f"{path.name}, row {number}", row
        except (ArrowException, OSError) as error:
            raise InputError(f"{path}: torn, or no Parquet file ({' '.join(str(error).split())[:200]})") from None


def class_folders(root: Path, template: str) -> Rows:
    """Images in a folder for each class: its name is the `label`, in words it fills in the `template`."""
    if "{class}" not in template:
        raise InputError(f"the template '{template}' has no {{class}} in it")
    paths = sorted(path for path in root.glob("*/*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise InputError(f"{root}: no images in its subfolders; class folders or .tar files are expected there")
    for path in paths:
        label = path.parent.name
        short = template.replace("{class}", classes.words(label))
        yield str(path), {"image": f"{label}/{path.name}", "label": label, "short": short}


def tars(paths: Sequence[Path], text_keys: Sequence[str]) -> Rows:
    """WebDataset samples: neighbouring members KEY.EXT, as rows {EXT: content} beside the keys of KEY.json.

    `image` is the sample's first image file; KEY.txt is `short` too, unless KEY.json has one or `text_keys`
    names "txt". Binary members stay where they are, as TarMember; contents are read for .json, .txt, .cls and
    the extensions in `text_keys`.
    """
    for path in paths:
        members: dict = {}
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    if not member.isfile():
                        continue
                    key, extension = _split(member.name)
                    if members and key != members["__key__"]:
                        yield _sample(path, members, text_keys)
                        members = {}
                    members["__key__"] = key
                    members[extension] = TarMember(path, member.name, member.offset_data, member.size)
                    if extension in ("json", "txt", "cls", *text_keys):
                        members[extension] = tar.extractfile(member).read()
        except (tarfile.TarError, OSError) as error:
            last = f" after sample {members['__key__']}" if members else ""
            raise InputError(f"{path}: torn, or not an uncompressed tar{last} ({error})") from None
        if members:
            yield _sample(path, members, text_keys)


def _sample(path: Path, members: dict, text_keys: Sequence[str]) -> tuple[str, dict]:
    where = f"{path.name}, sample {members['__key__']}"
    row = _object(_json(members.pop("json", b"{}"), where), where)
    image = next((place for name, place in members.items() if f".{name}".endswith(SUFFIXES)), None)
    try:
        texts = {key: value.decode() for key, value in members.items() if isinstance(value, bytes)}
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 text ({error})") from None
    if "txt" in texts and "txt" not in text_keys:
        row.setdefault("short", texts["txt"])
    return where, {**row, **members, **texts, **({"image": image} if image else {})}


def _split(name: str) -> tuple[str, str]:
    """WebDataset's rule: the key ends at the first dot of the file's name."""
    folder, slash, file = name.removeprefix("./").rpartition("/")
    stem, _, extension = file.partition(".")
    return f"{folder}{slash}{stem}", extension.lower()


def _json(data: bytes, where: str):
    try:
        return json.loads(data)
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise InputError(f"{where}: not JSON ({error})") from None


def _object(row, where: str) -> dict:
    if not isinstance(row, dict):
        raise InputError(f"{where}: a {type(row).__name__} where an object with image and texts is expected")
    return row
