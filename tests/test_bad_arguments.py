"""Every number that a command takes is read by its range: a generator tries values of all kinds on every option."""

from __future__ import annotations

import argparse
import importlib
import re

import pytest

from eval import command
from eval.command import floats, integers
from lrsclip_jax.cli import COMMANDS
from lrsclip_jax.errors import InputError

WRONG_EVERYWHERE = (
    *(
        "",
        " ",
        "-1",
        "-0.5",
        "1.5",
        "1e3",
        "nan",
        "inf",
        "-inf",
        "0x10",
        "1_000",
        "٣",
        "１２",
        "²",
        "1,2",
        "[1]",
        "None",
    ),
    *("True", "many", "a b", "3\n", "\udcff", "é", "9" * 30, "9" * 5000, str(2**32), "~", "1;2", "$(id)", "../1", "%s"),
)
RIGHT_FOR_NUMBERS = {"3\n"}
RIGHT_FOR_FRACTIONS = {"3\n", "1.5", "1e3"}  # or for some of them
RIGHT_SOMEWHERE = {integers: {"3\n", "1,2"}, floats: {"3\n", "1,2", "-1", "-0.5", "1.5", "1e3", "9" * 30, str(2**32)}}


class Caught(Exception):
    """Carries the parser out of a command."""


def parsers(monkeypatch) -> dict[str, argparse.ArgumentParser]:
    """Returns the parser of every command and of every command below one."""

    def caught(self, *_):
        raise Caught(self)

    found: dict[str, argparse.ArgumentParser] = {}

    def add(name: str, parser: argparse.ArgumentParser) -> None:
        inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        for action in inner:
            for word, under in action.choices.items():
                add(f"{name} {word}", under)
        if not inner:
            found[name] = parser

    with monkeypatch.context() as patched:
        patched.setattr(command._Parser, "parse_known_args", caught)
        for name, entry in COMMANDS.items():
            with pytest.raises(Caught) as raised:
                importlib.import_module(entry.module).main([], f"lrsclip {name}")
            add(name, raised.value.args[0])
    return found


def numeric(action: argparse.Action) -> bool:
    return getattr(action.type, "__name__", "") in ("whole_number", "number") or action.type in (
        integers,
        floats,
        int,
        float,
    )


def right(action: argparse.Action) -> set[str]:
    fractions = getattr(action.type, "__name__", "") == "number"
    return RIGHT_SOMEWHERE.get(action.type, RIGHT_FOR_FRACTIONS if fractions else RIGHT_FOR_NUMBERS)


def test_every_number_that_a_command_takes_has_a_range(monkeypatch):
    bare = [
        f"{name} {'/'.join(action.option_strings)}"
        for name, parser in parsers(monkeypatch).items()
        for action in parser._actions
        if action.type in (int, float)
    ]
    assert bare == []


def test_a_value_that_is_no_such_number_is_one_line_with_the_option_and_the_range(monkeypatch):
    tried = 0
    for name, parser in parsers(monkeypatch).items():
        for action in filter(numeric, parser._actions):
            option = action.option_strings[0]
            for value in WRONG_EVERYWHERE:
                if value in right(action):
                    continue
                with pytest.raises(InputError) as slip:  # the value is read before the other options are missed
                    parser.parse_args([f"{option}={value}"])
                said = str(slip.value)
                assert re.match(rf"{option}=.*: expected ", said), (name, value, said)
                assert said.isprintable() and len(said) < 250, (name, value)
                tried += 1
    assert tried > 700
