"""Configs: their defaults, loading a recipe, command-line overrides, and which keys shape the curve.

A recipe is a Python file with `get_config(arg=None)`. It starts from `defaults()`, or from another recipe with
`recipe(NAME)`, and sets the differences.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from eval.file_names import all_spelled
from lrsclip_jax.config import recipes
from lrsclip_jax.config.checks import check, leaves
from lrsclip_jax.config.keys import KEYS
from lrsclip_jax.config.overrides import overrides_of, set_alike, set_value
from lrsclip_jax.errors import InputError

__all__ = [
    "LATER",
    "OPERATIONAL",
    "ConfigDict",
    "curve_differences",
    "curve_hash",
    "defaults",
    "load",
    "overrides_of",
    "recipe",
    "to_json",
]

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

# Keys that came later. At its default such a key says what runs did before it, and stays out of the hash, which then
# is that of checkpoints from before.
LATER = (
    "model.text.keep",
    "model.text.ratio",
    *(key for key in KEYS if key.startswith(("data.long_draw.", "data.short_draw."))),
    "data.augmentation.turns",
    "data.image_features",
    "data.text_features",
    "loss.name",
    "loss.sigmoid_temperature",
    "loss.sigmoid_bias",
    "loss.same_image",
    "loss.text_pca",
    "loss.text_pca_weight",
    "loss.rising",
    "loss.hard_negatives",
    "loss.preserve",
    "loss.preserve_kind",
    "loss.preserve_teacher",
    "loss.patches",
    "optimizer.cooldown",
    "model.adapt",
    "model.adapt_with",
    "model.image.bands",
    "model.image.resolution",
    "model.image.min_patches",
    "model.new_bands",
    "model.band_scale",
    "model.band_mean",
    "model.band_std",
)


def defaults() -> ConfigDict:
    """Returns the config with every key that exists, at its default; only the towers take further keys.

    `lrsclip_jax.config.keys` says what each key means and which values it takes. A config takes any value at
    first; `checks.check` holds it against that table.
    """
    nested: dict[str, Any] = {}
    for key in KEYS.values():
        *groups, name = key.name.split(".")
        inner = nested
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[name] = key.default
    config = ConfigDict(nested, type_safe=False).lock()
    config.model.image.unlock()
    config.model.text.unlock()
    return config


def load(spec: str, overrides: Sequence[str] = (), folder: Path | None = None, option: str = "--config=") -> ConfigDict:
    """Returns the config of a recipe with `key=value` overrides applied, locked.

    A recipe of training, found where those are by default, is held against `lrsclip_jax.config.keys`. To a recipe from
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
        set_value(config, key, text) if folder is None else set_alike(config, key, text)
    if folder is None:
        _spell(config)
        check(config, f"{option}{spec}: ")
    return config.lock()


def _spell(config: ConfigDict) -> None:
    """Spells paths that are no UTF-8: config.json is a text file, and a run is continued by what it says."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            _spell(value)
        elif (spelled := all_spelled(value)) != value:
            config[name] = spelled


def recipe(spec: str, folder: Path | None = None) -> ConfigDict:
    """Returns the config that a recipe makes, to be changed: a recipe may start from another one.

        config = recipe("vitb16")
        config.model.name = "vitb32"

    Args:
      spec: the recipe's name or file, and behind a colon its argument if it takes one, see `recipes.call`.
      folder: where recipes are found by name. By default these are configs/ in the working directory, and the recipes
        that come with the package.

    Raises:
      InputError: there is no such recipe, it takes no argument or needs one, or its code fails; the line says where.
    """
    return recipes.call(spec, (folder,) if folder else recipes.shipped())


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
    before = {key: json.dumps(KEYS[key].default) for key in LATER}
    curve = {key: value for key, value in _curve(config).items() if before.get(key) != value}
    return hashlib.sha256(json.dumps(curve, sort_keys=True).encode()).hexdigest()[:12]


def _curve(config: ConfigDict) -> dict[str, str]:
    return {
        key: json.dumps(value)
        for key, value in leaves(config)
        if not any(key == name or key.startswith(f"{name}.") for name in OPERATIONAL)
    }
