"""How every command line here is set up: its parser, and the values that several commands take.

    parser = command_line("python -m eval.suite", "Runs all evaluations.", EXAMPLES, usage="SETS … --out=DIR [options]")
    add_subject(parser, "sets", metavar="SETS", help="…", many=True)
    parser.add_argument("--out", required=True, type=path, metavar="DIR", help="…")

Help shows descriptions and examples as they are written, options are written out in full, and a mistake is one line
and exit status 2, like any other bad input (`eval.errors.cli`).
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from eval.errors import InputError, nearest


def command_line(prog: str, description: str, epilog: str = "", *, usage: str = "") -> argparse.ArgumentParser:
    """Returns the parser of a command.

    Args:
      prog: the words by which the command was called, such as "lrsclip embed".
      description: a sentence about the command.
      epilog: examples, and what options alone do not tell.
      usage: the arguments in one line, required ones first; by default all that there are.
    """
    return _Parser(prog=prog, usage=f"%(prog)s {usage}" if usage else None, description=description, epilog=epilog)


def add_command(
    commands: Any, name: str, run: Callable[..., Any], usage: str, summary: str, epilog: str = ""
) -> argparse.ArgumentParser:
    """Adds a command with a name of its own, such as `corpus build`, and returns its parser.

    Args:
      commands: from `parser.add_subparsers(prog=parser.prog, …)`, with a parser that `command_line` made.
      name: of the command.
      run: becomes the parsed arguments' `run`.
      usage: as in `command_line`.
      summary: a line that begins with a verb.
      epilog: as in `command_line`.
    """
    added = commands.add_parser(
        name,
        usage=f"%(prog)s {usage}",
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=epilog,
    )
    added.set_defaults(run=run, parser=added)
    return added


def add_subject(
    parser: argparse.ArgumentParser,
    name: str,
    *,
    metavar: str,
    help: str,
    type: Callable[[str], Any] | None = None,
    many: bool = False,
    required: bool = True,
) -> None:
    """Adds the positional argument that a command works on.

    The option `--NAME=VALUE` says the same, as it did before the command had a positional argument; help leaves it out.

    Args:
      parser: from `command_line`.
      name: of the parsed argument; None where the argument is not `required` and not given.
      metavar, help, type: as in `add_argument`; by default a str whose "~" is expanded.
      many: whether there may be several; the parsed argument is a list.
      required: whether there must be one.
    """
    read = type or expanded

    def value(text: str) -> Any:  # argparse applies it to a default that is text, too
        return argparse.SUPPRESS if text == argparse.SUPPRESS else read(text)

    parser.set_defaults(**{name: None})
    either = parser.add_mutually_exclusive_group(required=required)
    either.add_argument(
        name, nargs="*" if many else "?", default=argparse.SUPPRESS, metavar=metavar, help=help, type=value
    )
    action = "append" if many else "store"
    either.add_argument(
        f"--{name}", dest=name, action=action, default=argparse.SUPPRESS, help=argparse.SUPPRESS, type=value
    )


def expanded(text: str) -> str:
    """Returns a path or a source with a leading "~" expanded, also behind a name as in "NAME:~/ARG": no shell does.

    Raises argparse.ArgumentTypeError for the home folder of nobody, and for a name that no file can have.
    """
    try:
        os.lstat(text)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG and ":" not in text:
            raise argparse.ArgumentTypeError(f"{text[:60]}…: {error.strerror}") from None
    name, colon, rest = text.partition(":")
    start, told = (name + colon, rest) if rest.startswith("~") and "/" not in name else ("", text)
    found = os.path.expanduser(told)
    if found == told and told.startswith("~") and not os.path.lexists(told):
        raise argparse.ArgumentTypeError(f"{text}: no such home folder")
    return start + found


def path(text: str) -> Path:
    """Returns a path with a leading "~" expanded; argparse.ArgumentTypeError as of `expanded`, and for no text."""
    if not text:
        raise argparse.ArgumentTypeError("empty, a path is expected")
    return Path(expanded(text))


def whole_number(least: int = 0, most: int = 2**31 - 1) -> Callable[[str], int]:
    """Returns the reader of a whole number in ASCII digits, from `least` to `most`."""

    def whole_number(text: str) -> int:
        digits = re.fullmatch(r"\s*([+-]?[0-9]{1,18})\s*", text)
        if not digits or not least <= int(digits[1]) <= most:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, not {_shown(text)}")
        return int(digits[1])

    return whole_number


def number(least: float, most: float) -> Callable[[str], float]:
    """Returns the reader of a finite number from `least` to `most`."""

    def number(text: str) -> float:
        with contextlib.suppress(ValueError):
            if least <= (value := _finite(text)) <= most:
                return value
        raise argparse.ArgumentTypeError(f"expected a number from {least:g} to {most:g}, not {_shown(text)}")

    return number


def integers(text: str) -> tuple[int, ...]:
    """Returns the whole numbers above zero of a list such as "256,512"."""
    return _listed(text, whole_number(1), "whole numbers above zero, such as 256,512")


def floats(text: str) -> tuple[float, ...]:
    """Returns the finite numbers of a list such as "2,98.5"."""
    return _listed(text, _finite, "numbers, such as 2,98.5")


def _finite(text: str) -> float:
    if not text.isascii() or "_" in text or not math.isfinite(number := float(text)):
        raise ValueError
    return number


def _listed(text: str, number: Callable[[str], Any], expected: str) -> tuple[Any, ...]:
    try:
        return tuple(map(number, text.split(",")))
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(f"expected a list of {expected}, not {_shown(text)}") from None


def _shown(text: str) -> str:
    """Returns what was given as a message shows it: one line, cut where it is long."""
    short = text if len(text) <= 40 else f"{text[:40]}…"
    return short if short.isprintable() and " " not in short else ascii(short)


class _Parser(argparse.ArgumentParser):
    def __init__(self, **settings: Any):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse's, but for a value "--", which argparse drops before Python 3.13."""
        for argument in sys.argv[1:] if args is None else args:
            if re.fullmatch(r"--[\w-]+=--", argument):
                self.error(f"{argument}: a value is expected")
        return super().parse_known_args(args, namespace)

    # argparse has an overload for each kind of namespace; this one takes and returns any.
    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Returns the parsed arguments; an argument that is none of them ends the program."""
        flags, rest = self.parse_known_args(args, namespace)
        if rest:
            self.refuse(flags, rest[0])
        return flags

    def refuse(self, flags: argparse.Namespace, argument: str) -> NoReturn:
        """Ends the program with one line: the command that `flags` are of has no such `argument`."""
        parser: argparse.ArgumentParser = getattr(flags, "parser", self)
        options = re.findall(r"^\s+(--[\w-]+)", parser.format_help(), re.MULTILINE)
        meant = nearest(argument.partition("=")[0], options) if argument.startswith("-") else ""
        parser.error(f"unknown argument {argument}{meant}")

    def error(self, message: str) -> NoReturn:
        """Raises InputError with one line, which ends the program with status 2 (`eval.errors.cli`)."""
        message = re.sub(r"^argument (--[\w-]+): (expected .*), not (.*)", r"\1=\3: \2", message)
        message = re.sub(r"one of the arguments (\S+) is required", r"\1 is missing", message)
        raise InputError(f"{message}; {self.prog} --help lists what is expected")
