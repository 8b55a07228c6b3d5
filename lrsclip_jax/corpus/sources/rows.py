"""Rows of texts in JSON and CSV files, read one by one, and the records that they become.

Every reader is a generator over (where, row); in place of a row that is none it gives an InputError, and goes on.
"""

from __future__ import annotations

import codecs
import csv
import itertools
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.corpus.sources.origin import Origin
from lrsclip_jax.data.sources import Keys, clean
from lrsclip_jax.errors import InputError, nearest

Rows = Iterator[tuple[str, dict | InputError]]
_CHUNK = 1 << 20  # characters of a JSON list, or bytes of a table, that are read together
_LONGEST = 1 << 22  # characters of a JSON text
_TRIED = 20  # rows that the keys are checked with
_BETWEEN = re.compile(r"[ \t\r\n,]*")


def json_lines(path: Path) -> Rows:
    """One JSON object a line; blank lines are skipped."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                where = f"{path.name}, line {number}"
                try:
                    yield where, _object(json.loads(line), where)
                except (ValueError, RecursionError) as error:
                    yield where, InputError(f"{where}: not JSON ({error})")


def json_list(path: Path) -> Rows:
    """A JSON list of objects, read in parts: it may be larger than memory. InputError where it is none, or torn."""
    decode, number = json.JSONDecoder().raw_decode, 0
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = ""
            while not text and (more := file.read(_CHUNK)):
                text = more.lstrip()
            if not text.startswith("["):
                raise InputError(f"{path}: a JSON list of objects is expected")
            at = 1
            while True:
                at = _BETWEEN.match(text, at).end()
                if text.startswith("]", at):
                    return
                try:
                    row, end = decode(text, at)
                except json.JSONDecodeError as error:
                    # What ends too early looks wrong near its end, or where its last text begins.
                    more = file.read(_CHUNK) if len(text) - error.pos <= _LONGEST else ""
                    if not more:
                        raise InputError(f"{path.name}, record {number + 1}: torn, or not JSON ({error.msg})") from None
                    text, at = text[at:] + more, 0
                    continue
                number += 1
                where = f"{path.name}, record {number}"
                yield where, _object(row, where)
                at = end
    except (UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path.name}, after record {number}: no JSON in UTF-8 ({error})") from None


def table(path: Path) -> Rows:
    """A CSV or TSV file with a header, in UTF-8, or else with a warning in GB 18030 (RSICD's lists)."""
    number = 0
    try:
        with open(path, encoding=_encoding(path), newline="") as file:
            reader = csv.DictReader(file, delimiter=_header(path)[1])
            while True:
                try:
                    row = next(reader, None)
                except csv.Error as error:
                    row = InputError(f"{path.name}, line {reader.line_num}: {error}")
                if row is None:
                    return
                number = reader.line_num
                where = f"{path.name}, line {number}"
                if isinstance(row, dict) and None in row:
                    row = InputError(f"{where}: more columns than the header has ({', '.join(reader.fieldnames)})")
                yield where, row
    except UnicodeDecodeError:
        raise InputError(f"{path.name}, after line {number}: neither UTF-8 nor GB 18030") from None


def columns(path: Path) -> list[str]:
    """Returns the names in the header of a CSV or TSV file."""
    line, delimiter = _header(path)
    return next(csv.reader([line], delimiter=delimiter), [])


def key_names(keys: Mapping[str, str] | None, **usual: str) -> dict[str, str]:
    """Returns under which key a row holds what: as chosen, as usual in the format, or called what it is.

    A key "a.0.b" reaches into nested objects and lists; one of an image, "folder/file", joins several to a path.
    """
    known = [field.name for field in fields(Keys)]
    for name in keys or ():
        if name not in known:
            raise InputError(f"keys: '{name}' is none of {', '.join(known)}{nearest(name, known)}")
    return {name: name for name in known} | usual | dict(keys or {})


def caption_records(
    rows: Iterable[tuple[str, dict | InputError]], names: Mapping[str, str], origin: Origin
) -> Iterator[CorpusRecord | SetAside]:
    """Yields the record of each row, or why there is none.

    Raises InputError at once where none of the first twenty rows has the key of the image, or one of the texts: it is
    the key that is wrong then.
    """
    rows = iter(rows)
    first = list(itertools.islice(rows, _TRIED))
    _check_keys([row for _, row in first if isinstance(row, dict)], names, origin)
    for where, row in itertools.chain(first, rows):
        try:
            if isinstance(row, InputError):
                raise row
            yield _record(row, names, origin, where)
        except InputError as error:
            yield origin.set_aside(where, str(error))


def _check_keys(rows: Sequence[dict], names: Mapping[str, str], origin: Origin) -> None:
    for needed in ({"image"}, {"long", "short"}):
        keys = {names[name] for name in needed}
        if rows and not any(value(row, key) is not None for row in rows for key in keys):
            found = list(dict.fromkeys(key for row in rows for key in row))
            wanted = " or ".join(f"'{key}'" for key in sorted(keys))
            hint = next(filter(None, (nearest(key, found) for key in sorted(keys))), "")
            raise InputError(
                f"{origin.name}: no {wanted} of the {' or '.join(sorted(needed))} in its first rows; "
                f"keys found: {', '.join(found)}{hint}"
            )


def _record(row: dict, names: Mapping[str, str], origin: Origin, where: str) -> CorpusRecord:
    image = value(row, names["image"])
    if not isinstance(image, str) or not image:
        raise InputError(f"{where}: '{names['image']}' is {image!r:.60}, the path of an image is expected")
    texts = {kind: _texts(row, names[kind], where) for kind in ("long", "short")}
    word = {name: _word(row, names[name], where) for name in ("id", "label", "licence", "split", "source")}
    if not any(texts.values()) and not word["label"]:
        raise InputError(f"{where}: neither a text nor a label")
    return CorpusRecord(
        id=origin.id(word["id"] or clean(image)),
        image=str(origin.root / image),
        source=word["source"] or origin.name,
        label=word["label"],
        licence=word["licence"] or origin.licence,
        split=word["split"] or origin.split,
        provenance=(origin.step(where),),
        **texts,
    )


def value(row: Any, key: str) -> Any:
    """Returns what a row holds under a key of `key_names`, or None."""
    if isinstance(row, dict) and key in row:
        return row[key]
    if "/" in key:
        parts = [value(row, part) for part in key.split("/")]
        return None if None in parts else "/".join(map(str, parts))
    for part in key.split("."):
        try:
            row = row[int(part) if isinstance(row, list) else part]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return row


def _texts(row: dict, key: str, where: str) -> tuple[str, ...]:
    given = value(row, key)
    texts = [text for text in (given if isinstance(given, list) else [given]) if text is not None]
    for text in texts:
        if not isinstance(text, str):
            raise InputError(f"{where}: '{key}' holds {text!r:.60}, a text or a list of texts is expected")
    return tuple(filter(None, map(clean, texts)))


def _word(row: dict, key: str, where: str) -> str | None:
    given = value(row, key)
    if given is not None and not isinstance(given, str | int):
        raise InputError(f"{where}: '{key}' is {given!r:.60}, a text or a number is expected")
    return None if given is None else clean(str(given)) or None


def _object(row: Any, where: str) -> dict | InputError:
    if isinstance(row, dict):
        return row
    return InputError(f"{where}: a {type(row).__name__} where an object with image and texts is expected")


def _header(path: Path) -> tuple[str, str]:
    with open(path, "rb") as file:
        line = file.readline().decode("utf-8-sig", "replace")
    return line, "\t" if "\t" in line else ","


def _encoding(path: Path) -> str:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open(path, "rb") as file:
        try:
            while chunk := file.read(_CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
            return "utf-8-sig"
        except UnicodeDecodeError:
            logging.getLogger(__name__).warning("%s is not UTF-8: read as GB 18030", path)
            return "gb18030"
