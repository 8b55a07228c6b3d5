"""Values of keys from the command line: "--config.KEY=VALUE"."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Sequence

from ml_collections import ConfigDict

from lrsclip_jax.config.checks import find, leaves
from lrsclip_jax.config.keys import KEYS
from lrsclip_jax.config.values import Many, shown
from lrsclip_jax.errors import InputError, nearest


def overrides_of(arguments: Sequence[str]) -> list[str]:
    """Returns "KEY=VALUE" for each command-line argument "--config.KEY=VALUE"; InputError for any other argument."""
    for argument in arguments:
        if not argument.startswith("--config."):
            raise InputError(f"unknown argument {argument}: keys of the config are set with --config.KEY=VALUE")
    return [argument.removeprefix("--config.") for argument in arguments]


def set_value(config: ConfigDict, key: str, text: str) -> None:
    """Sets a key of training to the value that a text stands for."""
    try:
        values = find(key).values
    except InputError as error:
        raise InputError(f"--config.{error}") from None
    value = parsed(text)
    if isinstance(values, Many) and not isinstance(value, tuple):
        value = (value,)
    if fault := values.fault(value):
        given = text if text.isprintable() and len(text) <= 100 else shown(text)
        raise InputError(f"--config.{key}={given}: {fault}")
    if isinstance(value, int) and key in KEYS and isinstance(KEYS[key].default, float):
        value = float(value)
    _assign(config, key, value)


def set_alike(config: ConfigDict, key: str, text: str) -> None:
    """Sets a key of another recipe to a value of the same type."""
    known = dict(leaves(config))
    if key not in known:
        if inner := [leaf for leaf in known if leaf.startswith(f"{key}.")]:
            raise InputError(f"--config.{key} is a group of keys; set one of them, such as --config.{inner[0]}")
        raise InputError(f"--config.{key}: unknown key{nearest(key, known)}")
    value, old = parsed(text), known[key]
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(old, tuple) and not isinstance(value, tuple):
        value = (value,)
    if not (old is None or value is None) and type(value) is not type(old):
        raise InputError(f"--config.{key}={text}: expected {type(old).__name__}, such as {old!r}")
    _assign(config, key, value)


def _assign(config: ConfigDict, key: str, value: object) -> None:
    *groups, name = key.split(".")
    target: object = config
    for group in groups:
        target = target.get(group) if isinstance(target, ConfigDict) else None
    if not isinstance(target, ConfigDict):
        raise InputError(f"--config.{key}: the recipe has no group {'.'.join(groups)}: start from config.defaults()")
    with target.unlocked(), target.ignore_type():
        target[name] = value


def parsed(text: str) -> object:
    """Returns what a text stands for: a Python literal, a list as a tuple, or the text itself."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        with warnings.catch_warnings():  # Python warns of a backslash in a pattern
            warnings.simplefilter("ignore")
            value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
    return tuple(value) if isinstance(value, list) else value
