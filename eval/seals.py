"""Seals: the last field of a JSON object is the CRC-32 of the text before it, so that damage is noticed.

    {"step": 10, "loss": 1.25, "crc32": "ce9ad1a7"}

A sealed object is JSON like any other, for pandas and jq too. Whoever edits one deletes the field `crc32`: an object
without it is read as it stands, as those of older versions are.
"""

from __future__ import annotations

import operator
import os
import re
import zlib
from typing import Any, TypeVar

from eval.errors import InputError
from eval.reading import numbered_lines, parse_json

Schema = TypeVar("Schema")
FIELD = "crc32"
_BEFORE, _DIGITS, _AFTER = b', "crc32": "', 8, b'"}'
_SEAL = re.compile(rb'(?:, ?)?"crc32": ?"([0-9a-f]{8})"\s*\}\s*\Z')


def seal(text: str) -> str:
    """Returns the text of a JSON object with its seal, without a line end."""
    return seal_bytes(text.encode()).decode()


def seal_bytes(text: bytes) -> bytes:
    """Returns the UTF-8 text of a JSON object with its seal, without a line end."""
    body = text.rstrip().removesuffix(b"}").rstrip()
    comma = b"" if body.endswith(b"{") else b", "
    return b'%s%s"%s": "%08x"}' % (body, comma, FIELD.encode(), zlib.crc32(body))


def unseal(text: bytes, where: str) -> bytes:
    """Returns the text of a JSON object without its seal; one that has none is returned as it is.

    Raises:
      InputError: the text is not what was sealed; it begins with `where`.
    """
    found = _SEAL.search(text)
    if found is None:
        if _nearly_sealed(text.rstrip()):
            raise InputError(f"{where}: damaged, its checksum ({FIELD}) can't be read")
        return text
    body = text[: found.start()]
    if zlib.crc32(body) != int(found[1], 16):
        raise InputError(f"{where}: damaged, its checksum ({FIELD}) is that of another text")
    return body + b"}"


def _nearly_sealed(text: bytes) -> bool:
    """Whether a text ends as a seal does but for one byte, or for its digits."""
    end = text[-len(_BEFORE) - _DIGITS - len(_AFTER) :]
    found = end[: len(_BEFORE)] + end[len(_BEFORE) + _DIGITS :]
    return len(found) == len(_BEFORE + _AFTER) and sum(map(operator.ne, found, _BEFORE + _AFTER)) <= 1


def parse_sealed(text: bytes, where: str, schema: type[Schema] | Any = Any) -> Schema:
    """Returns the value of a JSON object, sealed or not, as `reading.parse_json` does; its seal is taken off."""
    return parse_json(unseal(text, where), where, schema)


def read_sealed(path: str | os.PathLike[str], schema: type[Schema] | Any = Any) -> Schema:
    """Returns the value of a JSON file as `reading.read_json` does; InputError also where it is not what was sealed."""
    return parse_sealed(b"".join(line for _, line in numbered_lines(path)), str(path), schema)
