"""Which encoder it is that gave some features: a hash of all that they depend on."""

from __future__ import annotations

import hashlib
from typing import Any

import jax
import numpy as np

from lrsclip_jax.parameter_rules import path_of

_FIELDS = ("heads", "norm_eps", "activation", "pool")  # which the parameters do not show


def encoder_hash(tower: Any, params: Any, positions: int | None = None) -> str:
    """Returns 16 hex digits of a tower without its projection.

    Args:
      tower: the module, of which some fields are read.
      params: of the tower, arrays that this process holds whole.
      positions: rows of the position table that count, for texts of at most this many tokens; None: all of them.
    """
    fields = [(name, getattr(tower, name, None)) for name in _FIELDS]
    if base := getattr(tower, "rotary_base", None):  # of a table nothing is said, so that older hashes stay
        fields.append(("rotary_base", base))
    digest = hashlib.blake2b(repr(fields).encode(), digest_size=8)
    leaves = {path_of(path): value for path, value in jax.tree.leaves_with_path(params)}
    for name in sorted(leaves):
        if not name.startswith("projection/"):
            value = np.asarray(leaves[name], np.float32)
            value = np.ascontiguousarray(value[:positions] if name == "position_embedding" else value)
            digest.update(f"{name} {value.shape}".encode())
            digest.update(value.data)
    return digest.hexdigest()
