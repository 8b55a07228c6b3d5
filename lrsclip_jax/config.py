"""Configs: their defaults, loading a recipe, command-line overrides, and which keys shape the curve.

A recipe is a Python file with `get_config(arg=None)`. It starts from `defaults()`, or from another recipe with
`recipe(NAME)`, and sets the differences.
"""

from __future__ import annotations

import ast
import hashlib
import json
import warnings
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

from ml_collections import ConfigDict

from lrsclip_jax import recipe_files
from lrsclip_jax.config_checks import check, find, leaves
from lrsclip_jax.config_keys import KEYS
from lrsclip_jax.config_values import Many, shown
from lrsclip_jax.errors import InputError, nearest

# A run may be continued with other values of these keys. Every other key determines the curve: another value of
# one of those is another run (`--branch=NEWDIR` starts it from this run's newest checkpoint).
OPERATIONAL = (
    "eval",
    "checkpoint",
    "log",
    "mesh",
    "train",
    "model.image.remat",
    "model.text.remat",
    "model.image.attention",
    "model.text.attention",
    "model.image.unroll",
    "model.text.unroll",
    "model.image.token_multiple",
    "loss.form",
    "loss.chunk",
    "data.packed",
    "data.row_length",
    "data.threads",
    "data.workers",
    "data.max_torn",
)


def defaults() -> ConfigDict:
    """Returns the config with every key that exists, at its default; only the towers take further keys.

    `lrsclip_jax.config_keys` says what each key means and which values it takes. `config_checks.check` holds a config
    against that, so it takes any value at first.
    """
    nested: dict[str, object] = {}
    for key in KEYS.values():
        *groups, name = key.name.split(".")
        reduce(lambda inner, group: inner.setdefault(group, {}), groups, nested)[name] = key.default
    config = ConfigDict(nested, type_safe=False).lock()
    config.model.image.unlock()
    config.model.text.unlock()
    return config


def overrides_of(arguments: Sequence[str]) -> list[str]:
    """Returns "KEY=VALUE" for each command-line argument "--config.KEY=VALUE"; InputError for any other argument."""
    for argument in arguments:
        if not argument.startswith("--config."):
            raise InputError(f"unknown argument {argument}: keys of the config are set with --config.KEY=VALUE")
    return [argument.removeprefix("--config.") for argument in arguments]


def load(spec: str, overrides: Sequence[str] = (), folder: Path | None = None, option: str = "--config=") -> ConfigDict:
    """Returns the config of a recipe with `key=value` overrides applied, locked.

    A recipe of training, found where those are by default, is held against `lrsclip_jax.config_keys`. To a recipe from
    another folder, overrides are values of the same type.

    Args:
      spec: NAME, NAME:ARG, FILE.py or FILE.py:ARG, see `recipe`.
      overrides: made by `overrides_of`.
      folder: where recipes are found by name, see `recipe`.
      option: what stands before `spec` on the command line; messages begin with both.

    Raises:
      InputError: as `recipe`, and for an unknown key, a value that is not allowed, or values that cannot work
        together.
    """
    try:
        config = recipe(spec, folder)
    except InputError as error:
        raise InputError(f"{option}{error}") from error
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise InputError(f"--config.{key}: write --config.{key}=VALUE")
        _set(config, key, text) if folder is None else _set_alike(config, key, text)
    if folder is None:
        check(config, f"{option}{spec}: ")
    return config.lock()


def recipe(spec: str, folder: Path | None = None) -> ConfigDict:
    """Returns the config that a recipe makes, to be changed: a recipe may start from another one.

        config = recipe("vitb16")
        config.model.name = "vitb32"

    Args:
      spec: the recipe's name or file, and behind a colon its argument if it takes one, see `recipe_files.call`.
      folder: where recipes are found by name. By default these are configs/ in the working directory, and the recipes
        that come with the package.

    Raises:
      InputError: there is no such recipe, it takes no argument or needs one, or its code fails; the line says where.
    """
    return recipe_files.call(spec, (folder,) if folder else recipe_files.shipped())


def _set(config: ConfigDict, key: str, text: str) -> None:
    """Sets a key of training to the value that a text stands for."""
    try:
        values = find(key).values
    except InputError as error:
        raise InputError(f"--config.{error}") from None
    value = _parse(text)
    if isinstance(values, Many) and not isinstance(value, tuple):
        value = (value,)
    if fault := values.fault(value):
        given = text if text.isprintable() and len(text) <= 100 else shown(text)
        raise InputError(f"--config.{key}={given}: {fault}")
    if isinstance(value, int) and key in KEYS and isinstance(KEYS[key].default, float):
        value = float(value)
    _assign(config, key, value)


def _set_alike(config: ConfigDict, key: str, text: str) -> None:
    """Sets a key of another recipe to a value of the same type."""
    known = dict(leaves(config))
    if key not in known:
        if inner := [leaf for leaf in known if leaf.startswith(f"{key}.")]:
            raise InputError(f"--config.{key} is a group of keys; set one of them, such as --config.{inner[0]}")
        raise InputError(f"--config.{key}: unknown key{nearest(key, known)}")
    value, old = _parse(text), known[key]
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(old, tuple) and not isinstance(value, tuple):
        value = (value,)
    if not (old is None or value is None) and type(value) is not type(old):
        raise InputError(f"--config.{key}={text}: expected {type(old).__name__}, such as {old!r}")
    _assign(config, key, value)


def _assign(config: ConfigDict, key: str, value: object) -> None:
    *groups, name = key.split(".")
    target = reduce(lambda inner, group: inner[group], groups, config)
    with target.unlocked(), target.ignore_type():
        target[name] = value


def _parse(text: str) -> object:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        with warnings.catch_warnings():  # Python warns of a backslash in a pattern
            warnings.simplefilter("ignore")
            value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
    return tuple(value) if isinstance(value, list) else value


def to_json(config: ConfigDict) -> str:
    """Returns the config as indented JSON (tuples become lists)."""
    return json.dumps(config.to_dict(), indent=2) + "\n"


def curve_differences(saved: dict, config: ConfigDict) -> list[str]:
    """Returns "key: old -> new" for every curve-determining key in which a saved config and this one differ.

    A key that did not exist yet when the config was saved had its default's meaning.
    """
    old, new = _curve(defaults()) | _curve(ConfigDict(saved)), _curve(config)
    return [
        f"{key}: {old.get(key, 'absent')} -> {new.get(key, 'absent')}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def curve_hash(config: ConfigDict) -> str:
    """Returns 12 hexadecimal digits that are equal for configs of equal curve-determining keys."""
    return hashlib.sha256(json.dumps(_curve(config), sort_keys=True).encode()).hexdigest()[:12]


def _curve(config: ConfigDict) -> dict[str, str]:
    return {
        key: json.dumps(value)
        for key, value in leaves(config)
        if not any(key == name or key.startswith(f"{name}.") for name in OPERATIONAL)
    }
