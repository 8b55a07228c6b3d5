"""Muon (Jordan et al. 2024) for the matrices inside the blocks of both towers, and AdamW's moments for the rest.

The momentum of a matrix is made orthogonal by five Newton–Schulz rounds, and then multiplied by 0.2·√max(in, out). So
an update has the size of AdamW's, and one learning rate and one weight decay serve both (Moonlight, arXiv 2502.16982).
"""

from __future__ import annotations

import math
import re
from typing import Any

import jax
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from lrsclip_jax.parameter_rules import path_of

PyTree = Any

_RMS = 0.2  # of an update's elements, as AdamW's usually have


def scale(momentum: float, b1: float, b2: float, eps: float, trainable: PyTree) -> optax.GradientTransformation:
    """Returns the directions of Muon and of Adam, before learning rate and weight decay.

    Args:
        momentum: of Muon, with Nesterov's step; 0.95 is usual.
        b1, b2, eps: of Adam.
        trainable: a bool for each parameter; the others have no state.
    """
    is_matrix = jax.tree.map_with_path(lambda path, trains: bool(trains and _axes(path)), trainable)
    others = jax.tree.map(lambda trains, matrix: trains and not matrix, trainable, is_matrix)
    muon = optax.chain(
        scale_by_muon(beta=momentum, weight_dimension_numbers=_dimensions),
        optax.stateless(lambda updates, _: jax.tree.map_with_path(_sized, updates)),
    )
    return optax.chain(optax.masked(muon, is_matrix), optax.masked(optax.scale_by_adam(b1, b2, eps), others))


def _dimensions(params: PyTree) -> PyTree:
    return jax.tree.map_with_path(lambda path, _: _axes(path), params)


def _sized(path: tuple, update: jax.Array) -> jax.Array:
    axes = _axes(path)
    assert axes
    sides = [math.prod(update.shape[axis] for axis in np.atleast_1d(side)) for side in axes]
    return _RMS * math.sqrt(max(sides)) * update


def _axes(path: tuple) -> MuonDimensionNumbers | None:
    """Returns which axes of a parameter are the input and the output of a matrix, None where it is none of a block.

    All other axes count matrices: the layers on axis 0; of qkv/kernel [L, D, 3, H, D/H], axis 2, for query, key and
    value are three matrices. out/kernel is [L, H, D/H, D]; every other kernel of a block is [L, in, out].
    """
    name = path_of(path)
    if not re.search(r"(^|/)blocks/(.*/)?kernel$", name):
        return None
    if name.endswith("qkv/kernel"):
        return MuonDimensionNumbers(reduction_axis=1, output_axis=(3, 4))
    if name.endswith("attention/out/kernel"):
        return MuonDimensionNumbers(reduction_axis=(1, 2), output_axis=3)
    return MuonDimensionNumbers(reduction_axis=1, output_axis=2)
