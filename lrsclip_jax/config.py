"""Configs: their defaults, loading a recipe, command-line overrides, and which keys shape the curve.

A recipe is a Python file with `get_config(arg=None)` that starts from `defaults()` and sets what differs.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import json
import warnings
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

from ml_collections import ConfigDict

from lrsclip_jax import recipe_errors
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


def load(spec: str, overrides: Sequence[str] = (), training: bool = True) -> ConfigDict:
    """Returns the config of `FILE.py` or `FILE.py:arg` with `key=value` overrides applied, locked.

    Raises InputError for a missing file, a recipe that raises or returns no config, an unknown key, a value that is not
    allowed, or values that cannot work together. `training` is False for recipes whose keys are not those of
    `lrsclip_jax.config_keys`; overrides then keep the type of the recipe's value.
    """
    path, _, arg = spec.partition(".py:")
    path = Path(path if path.endswith(".py") else f"{path}.py")
    if not path.is_file():
        raise InputError(f"--config={spec}: no file {path}")
    module_spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    module = importlib.util.module_from_spec(module_spec)
    with recipe_errors.told(path):
        module_spec.loader.exec_module(module)
    get_config = recipe_errors.get_config_of(module, path)
    parameters = inspect.signature(get_config).parameters.values()
    if arg and not parameters:
        raise InputError(f"--config={spec}: get_config() of {path} takes no argument '{arg}'")
    if not arg and (needed := [p.name for p in parameters if p.default is p.empty]):
        raise InputError(
            f"--config={spec}: the recipe needs its {needed[0]}, write --config={path}:{needed[0].upper()}"
        )
    with recipe_errors.told(path):
        config = get_config(arg) if arg else get_config()
    recipe_errors.require_config(config, get_config, path)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise InputError(f"--config.{key}: write --config.{key}=VALUE")
        (_set if training else _set_alike)(config, key, text)
    if training:
        check(config, f"{path}: ")
    return config.lock()


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
