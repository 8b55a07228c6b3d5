"""The options of sources on a command line. The options of a format are the arguments of its reader."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from eval.reading import read_text
from lrsclip_jax.corpus.reading import options_of
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.named_kinds import NAMED_KINDS
from lrsclip_jax.sources.row_keys import Keys


class Option(NamedTuple):
    """metavar, help: of the flag; parse: makes the reader's argument of its word, or of all words if it has `many`."""

    metavar: str
    help: str
    parse: Callable[[Any], Any] = str
    many: bool = False


def pairs(words: Sequence[str]) -> dict[str, str]:
    """Returns {name: value} of words NAME=VALUE, or of files with a line of it each; the last of a name holds."""
    found: dict[str, str] = {}
    for word in words:
        lines = [word] if "=" in word else _lines(word)
        for line in lines:
            name, equals, value = map(str.strip, line.partition("="))
            if not (name and equals and value):
                raise InputError(f"{line!r:.80} is no NAME=VALUE" + ("" if line is word else f" ({word})"))
            found[name] = value
    return found


def _lines(file: str) -> list[str]:
    try:
        return [line for line in read_text(file).splitlines() if line.strip()]
    except InputError:
        raise InputError(f"{file!r:.80} is neither NAME=VALUE nor a file of such lines") from None


def _integer(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise InputError(f"a whole number is expected, got {word!r:.80}") from None


def _integers(words: Sequence[str]) -> tuple[int, ...]:
    return tuple(map(_integer, words))


def _numbered(words: Sequence[str]) -> dict[int, str]:
    return {_integer(value): name for value, name in pairs(words).items()}


_KEYS = [field.name for field in fields(Keys)]
OPTIONS: dict[str, Option] = {
    "name": Option("NAME", "of the subset, where the records themselves name none"),
    "image_root": Option("DIR", "folder that paths of images are relative to"),
    "licence": Option("LICENCE", "of records that name none"),
    "split": Option("SPLIT", "of records that name none"),
    "rename": Option("OLD=NEW", "classes that are to be called otherwise", pairs, many=True),
    "keys": Option("NAME=KEY", f"under which key rows hold their {', '.join(_KEYS)}", pairs, many=True),
    "template": Option("TEXT", "short text of an image in a class folder, with {class} in it"),
    "extract_to": Option("DIR", "where images of tars and prepared sets become files"),
    "only": Option("PART", "all that is wanted: of VHM one source_dataset, of others one split"),
    "names": Option("VALUE=NAME", "class name of each value of a mask", _numbered, many=True),
    "ignore": Option("VALUE", "values of a mask that are no class and no error", _integers, many=True),
    "suffix": Option("TEXT", "what names of masks have at their end beyond those of the images, such as _mask"),
    "min_pixels": Option("N", "smaller parts of a mask are left out", _integer),
}


def add_options(parse: argparse.ArgumentParser) -> None:
    """Adds a flag for every option of every source, those of some formats with the names of these."""
    every = parse.add_argument_group("options of all kinds")
    some = parse.add_argument_group("options of some kinds")
    for name, option in OPTIONS.items():
        kinds = [kind for kind in NAMED_KINDS if name in options_of(kind)]
        several: dict[str, Any] = {"nargs": "+", "action": "extend"} if option.many else {}
        (some if kinds else every).add_argument(
            _flag(name),
            metavar=option.metavar,
            help=option.help + (f" ({', '.join(kinds)})" if kinds else ""),
            default=argparse.SUPPRESS,
            **several,
        )


def given_options(flags: argparse.Namespace) -> dict[str, Any]:
    """Returns the options that were given, as `read_source` takes them; InputError names the flag of a bad one."""
    given: dict[str, Any] = {}
    for name, option in OPTIONS.items():
        if hasattr(flags, name):
            try:
                given[name] = option.parse(getattr(flags, name))
            except InputError as error:
                raise InputError(f"{_flag(name)}: {error}") from None
    return given


def kinds_help() -> str:
    """Returns a line for each kind, with the flags that it has of its own."""
    width = max(map(len, NAMED_KINDS)) + 2
    rows = []
    for name, kind in NAMED_KINDS.items():
        rows.append(f"  {name:{width}}{kind.help}")
        if own := options_of(name):
            rows.append(f"  {'':{width}}  {' '.join(map(_flag, own))}")
    return "\n".join(rows)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
