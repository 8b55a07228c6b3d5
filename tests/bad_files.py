"""Bad values and bad files, for every reader: what is no JSON at all, and JSON whose fields are of other types."""

import contextlib
import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eval.errors import InputError

DEEP = 100_000
# What no reader of JSON can use, whatever it expects in the file.
NO_JSON: dict[str, bytes] = {
    "empty": b"",
    "blank": b"\n\n",
    "cut": b'{"a": [1, 2',
    "bytes": bytes(range(256)),
    "not_utf8": b'{"a": "\xff"}',
    "utf16": '{"a": 1}'.encode("utf-16"),
    "half_a_surrogate_pair": b'{"a": "\\ud800"}',
    "half_a_pair_next_to_nan": b'{"a": "\\ud800", "b": NaN}',
    "deep_list": b"[" * DEEP,
    "deep_object": b'{"a":' * DEEP,
    "deep_and_closed": b"[" * DEEP + b"]" * DEEP,
    "html": b"<!doctype html><title>404</title>",
}
# Values of every type and of odd sizes; as JSON, for a number may have 5,000 digits.
VALUES: dict[str, str] = {
    "null": "null",
    "true": "true",
    "zero": "0",
    "negative": "-1",
    "huge": "1000000000000",
    "beyond_64_bits": "1" + "0" * 30,
    "digits": "9" * 5000,
    "fraction": "0.5",
    "nan": "NaN",
    "infinite": "-Infinity",
    "beyond_float": "1e999",
    "empty_text": '""',
    "text": '"x"',
    "line_ends": '"a\\nb\\r\\u2028c"',
    "list": "[]",
    "list_of_text": '["a", "b"]',
    "list_of_lists": "[[[]]]",
    "object": "{}",
    "object_of_objects": '{"a": {"b": null}}',
}
ABSENT = "absent"
_MARK = "\u2603 here"


def spoiled(document: Any) -> Iterator[tuple[str, str]]:
    """Yields JSON texts in which one value of `document` is missing or another one, each with its place and what it is.

    All values of objects are taken, at any depth, the first two elements of lists, and the document itself.
    """
    for place in _places(document):
        name = ".".join(map(str, place)) or "$"
        changed = copy.deepcopy(document)
        if place:
            _put(changed, place, _MARK)
        else:
            changed = _MARK
        text = json.dumps(changed, ensure_ascii=False)
        assert text.count(f'"{_MARK}"') == 1
        for kind, value in VALUES.items():
            yield f"{name} {kind}", text.replace(f'"{_MARK}"', value)
        if place and isinstance(place[-1], str):
            changed = copy.deepcopy(document)
            _remove(changed, place)
            yield f"{name} {ABSENT}", json.dumps(changed)


def _places(value: Any, place: tuple = ()) -> Iterator[tuple]:
    yield place
    inner = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, each in inner:
        yield from _places(each, (*place, key))


def _put(document: Any, place: tuple, value: Any) -> None:
    for key in place[:-1]:
        document = document[key]
    document[place[-1]] = value


def _remove(document: Any, place: tuple) -> None:
    for key in place[:-1]:
        document = document[key]
    del document[place[-1]]


def refused(read: Callable[[], Any], *said: str) -> str:
    """Asserts that `read` raises an InputError of one line that holds each of `said`; returns the line."""
    with pytest.raises(InputError) as caught:
        read()
    return one_line(caught.value, *said)


def borne(read: Callable[[], Any], *said: str) -> bool:
    """Asserts that `read` returns, or raises an InputError of one line that holds each of `said`; tells which."""
    try:
        read()
    except InputError as error:
        one_line(error, *said)
        return False
    return True


def one_line(error: Exception, *said: str) -> str:
    """Asserts that an error's text is one line of sensible length that holds each of `said`; returns it."""
    text = str(error)
    assert text and len(text.splitlines()) == 1, text
    assert len(text) < 2000, text[:300]
    for each in said:
        assert each in text, text
    return text


def unreadable(path: Path) -> Iterator[str]:
    """Puts in place of a file, one after the other, what can't be read as JSON, and restores it; yields what it is."""
    kept = path.read_bytes()
    with _restored(path, kept):
        for name, content in NO_JSON.items():
            path.write_bytes(content)
            yield name
        path.write_bytes(kept[: len(kept) // 2])
        yield "half"
        path.unlink()
        path.mkdir()
        yield "folder"


@contextlib.contextmanager
def _restored(path: Path, content: bytes) -> Iterator[None]:
    try:
        yield
    finally:
        if path.is_dir():
            shutil.rmtree(path)
        path.write_bytes(content)
