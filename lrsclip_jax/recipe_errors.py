"""Faults of a recipe's own code, each in one line with its file and line: a recipe is Python that a user wrote."""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from lrsclip_jax.config_checks import GROUPS
from lrsclip_jax.config_keys import KEYS, tower_keys
from lrsclip_jax.config_values import shown
from lrsclip_jax.errors import InputError, nearest

_LONGEST = 300  # characters of an exception's message


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """A context in which the recipe at `path` runs: an exception of any kind, or its exit, becomes an InputError.

    An InputError of the recipe's own is left as it is.
    """
    try:
        yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"{_place(error, path)}: {_words(error)}") from None


def get_config_of(module: ModuleType, path: Path) -> Callable[..., Any]:
    """Returns a recipe's `get_config`; InputError where it has none."""
    found = getattr(module, "get_config", None)
    if not callable(found):
        raise InputError(f"{path}: the file defines no function get_config(), which returns the config")
    return found


def require_config(config: object, get_config: Callable[..., Any], path: Path) -> None:
    """Raises InputError unless `config`, what `get_config` of the recipe at `path` returned, is a config."""
    if not isinstance(config, ConfigDict):
        code = getattr(get_config, "__code__", None)
        line = f", line {code.co_firstlineno}" if code else ""
        raise InputError(f"{path}{line}: get_config() returns {shown(config)}, it must end with `return config`")


def _place(error: BaseException, path: Path) -> str:
    """The file and the line where an exception was raised: of the recipe, or of a file that does not parse."""
    if isinstance(error, SyntaxError) and error.filename and not error.filename.startswith("<"):
        return f"{error.filename}, line {error.lineno}" if error.lineno else str(error.filename)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}, line {lines[-1]}" if lines else str(path)


def _words(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "the recipe ends the program; get_config() must return the config"
    try:
        message = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
    except Exception:  # an exception of the recipe's own
        message = ""
    if isinstance(error, AttributeError | KeyError) and (found := re.search(r'Key "(\w+)" does not exist', message)):
        names = {key.rpartition(".")[2] for key in (*KEYS, *tower_keys())} | {
            group.rpartition(".")[2] for group in GROUPS
        }
        return f"the config has no key {found[1]!r} here{nearest(found[1], names)}"
    return f"{type(error).__name__}: {message[:_LONGEST]}" if message else type(error).__name__
