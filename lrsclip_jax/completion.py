"""Completion in the shell, by argcomplete: commands, options, recipes and keys of configs.

    pip install argcomplete
    eval "$(register-python-argcomplete lrsclip)"

The shell runs the command for each completion, with the line in COMP_LINE. No command does any work then.
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Iterable, Mapping
from typing import Any

VARIABLE = "_ARGCOMPLETE"  # set by the shell when it asks


def complete(modules: Mapping[str, str]) -> None:
    """Prints what may come next in COMP_LINE, and ends the process.

    Args:
      modules: the module of each command, whose `main` parses the command's arguments.
    """
    import argcomplete

    line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
    _, *words = line.split(" ")
    name = words[0] if len(words) > 1 else ""
    if name not in modules:
        parser = argparse.ArgumentParser()
        parser.add_argument("--version", action="store_true")
        parser.add_argument("command", choices=sorted(modules))
        argcomplete.autocomplete(parser, always_complete_options="long")
        return
    os.environ[VARIABLE] = "2"  # the command's name is the program's
    parse = argparse.ArgumentParser.parse_known_args

    def parse_known_args(parser: Any, *arguments: Any) -> Any:
        argparse.ArgumentParser.parse_known_args = parse  # type: ignore[method-assign]  # argcomplete parses by it
        _add_keys(parser)
        argcomplete.autocomplete(parser, always_complete_options="long")
        raise SystemExit(0)

    argparse.ArgumentParser.parse_known_args = parse_known_args  # type: ignore[assignment]
    importlib.import_module(modules[name]).main([], f"lrsclip {name}")


def _add_keys(parser: argparse.ArgumentParser) -> None:
    """Adds recipes and keys to a parser whose --config is a training recipe; others read keys of their own."""
    for action in parser._actions:
        if "--config" in action.option_strings:
            action.completer = _recipes  # type: ignore[attr-defined]
            from lrsclip_jax.config.keys import KEYS

            for key in KEYS.values():
                parser.add_argument(f"--config.{key.name}", help=key.meaning)
            return


def _recipes(prefix: str, **_: Any) -> Iterable[str]:
    from lrsclip_jax.config.recipes import shipped

    return sorted({path.stem for folder in shipped() for path in folder.glob("*.py") if not path.stem.startswith("_")})
