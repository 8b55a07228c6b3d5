"""The base of an adapted run: the weights that it starts from and does not train, which its checkpoints leave out.

A checkpoint of such a run holds the parameters that train. Of the base its JSON names the sources, as the config has
them, and a hash: whoever reads the checkpoint reads the sources again, and compares.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from lrsclip_jax.errors import InputError
from lrsclip_jax.models import adapt_rules
from lrsclip_jax.parameter_rules import path_of

_SOURCES = ("init", "image_init", "text_init")


def described(config: ConfigDict, params: Any) -> dict[str, Any]:
    """Returns what a checkpoint says of its base, {"base": {"init": SRC, …, "sha256": …}}, or {} of a plain run.

    `params` are those that the run starts from, on the host or a device of this process; their adapters do not matter.
    """
    if not config.model.get("adapt"):  # absent in the configs of older runs
        return {}
    sources = {name: config.model[name] for name in _SOURCES if config.model[name] is not None}
    return {"base": sources | {"sha256": sha256(params, config.model.adapt_with)}}


def sha256(params: Any, adapt_with: Sequence[str]) -> str:
    """Returns the SHA-256 of the parameters, float32, that don't train by `model.adapt_with`: names and numbers."""
    digest = hashlib.sha256()
    leaves = jax.tree.leaves_with_path(_part(params, _trains(adapt_with), False))
    for path, value in sorted(((path_of(path), value) for path, value in leaves), key=lambda leaf: leaf[0]):
        digest.update(path.encode())
        digest.update(np.ascontiguousarray(value, np.float32).data)
    return digest.hexdigest()


def check(folder: Any, saved: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Raises InputError unless a checkpoint has the base of a run; `saved` is its JSON, `about` the run's."""
    theirs, ours = saved.get("base"), about.get("base")
    if bool(theirs) != bool(ours):
        held, wanted = ("adapters", "whole weights") if theirs else ("whole weights", "adapters")
        raise InputError(f"{folder} holds {held}, and by model.adapt this run has {wanted}")
    if theirs and ours and theirs["sha256"] != ours["sha256"]:
        raise InputError(
            f"{folder} holds adapters of another base: they were trained on {sources(theirs)} with sha256 "
            f"{theirs['sha256'][:12]}…, and {sources(ours)} has {ours['sha256'][:12]}…"
        )


def trained(about: Mapping[str, Any], params: Any) -> Any:
    """Returns what a checkpoint with this JSON holds of a tree of parameters."""
    return _part(params, _trains(about["config"]["model"]["adapt_with"])) if "base" in about else params


def left_out(about: Mapping[str, Any], params: Any) -> Any:
    """Returns what a checkpoint with this JSON does not hold of a tree of parameters."""
    return _part(params, _trains(about["config"]["model"]["adapt_with"]), False) if "base" in about else {}


def adapters(params: Any) -> Any:
    """Returns the part of a tree of parameters that adapters add to a model."""
    return _part(params, _trains(()))


def joined(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the leaves of two nested dicts in one; where both have a leaf, that of `other`."""
    deeper = {key for key in one.keys() & other.keys() if isinstance(one[key], Mapping)}
    return {**one, **other, **{key: joined(one[key], other[key]) for key in deeper}}


def sources(base: Mapping[str, Any]) -> str:
    """Returns the sources of a base in words."""
    return " and ".join(dict.fromkeys(base[name] for name in _SOURCES if name in base))


def _trains(adapt_with: Any) -> re.Pattern[str]:
    return re.compile(adapt_rules.trained(adapt_with))


def _part(
    params: Mapping[str, Any], pattern: re.Pattern[str], matching: bool = True, prefix: str = ""
) -> dict[str, Any]:
    """The leaves of a nested dict whose paths match, or do not."""
    found: dict[str, Any] = {}
    for key, value in params.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            if inner := _part(value, pattern, matching, f"{path}/"):
                found[key] = inner
        elif bool(pattern.fullmatch(path)) == matching:
            found[key] = value
    return found
