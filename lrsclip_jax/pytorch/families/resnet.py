"""The ResNets of OpenAI's CLIP under its key names, which open_clip, ITRA and RemoteCLIP share; part of `openai`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from lrsclip_jax.errors import InputError
from lrsclip_jax.models.resnet import ResNet
from lrsclip_jax.pytorch import layout
from lrsclip_jax.pytorch.families.tower_fields import grid_side
from lrsclip_jax.pytorch.files.tensors import Tensors
from lrsclip_jax.pytorch.layout import CONVOLUTION, Leaf

_POSITIONS = "attnpool.positional_embedding"


def recognises(tensors: Tensors, prefix: str) -> bool:
    """Returns whether the image tower, whose keys begin with `prefix`, is a ResNet with CLIP's head of attention."""
    return f"{prefix}{_POSITIONS}" in tensors


def sketch(tensors: Tensors, prefix: str) -> ResNet:
    """Returns the tower as far as tensors show it, without its heads; InputError where one that tells it is missing."""
    first, positions = f"{prefix}layer1.0.conv1.weight", f"{prefix}{_POSITIONS}"
    if first not in tensors or len(tensors.shape(first)) != 4 or not all(tensors.shape(first)):
        raise InputError(f"{tensors.name} has no {first} of four dimensions")
    # Counted, not read off the highest number: a bottleneck that is missing is then found by layout.check.
    stages = tuple(
        sum(1 for key in tensors if re.fullmatch(rf"{re.escape(prefix)}layer{stage}\.\d+\.conv1\.weight", key))
        for stage in (1, 2, 3, 4)
    )
    if not all(stages):
        raise InputError(f"{tensors.name} lacks {prefix}layer{stages.index(0) + 1}.0.conv1.weight")
    return ResNet(32 * grid_side(tensors, positions), tensors.shape(first)[0], stages)


def image_fields(tower: ResNet) -> dict[str, Any]:
    """Returns the fields that tensors show."""
    return {"kind": "resnet", "size": tower.size, "width": tower.width, "stages": tower.stages}


def table(stages: Sequence[int], prefix: str) -> list[Leaf]:
    """Returns where the parameters of a ResNet of these `stages` stand."""
    blocks = [(f"layer{stage}", number) for stage, count in enumerate(stages, 1) for number in range(count)]
    pool = f"{prefix}attnpool"
    return [
        *(leaf for n in (1, 2, 3) for leaf in _convolution(f"stem/conv{n}", f"{prefix}conv{n}", f"{prefix}bn{n}")),
        *(leaf for layer, number in blocks for leaf in _bottleneck(layer, number, prefix)),
        Leaf("image/position_embedding", (f"{prefix}{_POSITIONS}",)),
        *layout.dense("image/head/query", f"{pool}.q_proj"),
        *layout.dense("image/head/key", f"{pool}.k_proj"),
        *layout.dense("image/head/value", f"{pool}.v_proj"),
        *layout.dense("image/projection", f"{pool}.c_proj"),
    ]


def check_variances(tensors: Tensors, leaves: Sequence[Leaf]) -> None:
    """Raises InputError where a variance of a batch norm is negative."""
    for leaf in leaves:
        if leaf.path.endswith("/var") and (tensors[leaf.keys[0]] < 0).any():
            raise InputError(f"{tensors.name}: {leaf.keys[0]} holds negative numbers, which are no variances")


def _bottleneck(layer: str, number: int, prefix: str) -> list[Leaf]:
    ours, theirs = f"{layer}_{number}", f"{prefix}{layer}.{number}"
    parts = [_convolution(f"{ours}/conv{n}", f"{theirs}.conv{n}", f"{theirs}.bn{n}") for n in (1, 2, 3)]
    if number == 0:
        parts.append(_convolution(f"{ours}/downsample", f"{theirs}.downsample.0", f"{theirs}.downsample.1"))
    return [leaf for part in parts for leaf in part]


def _convolution(path: str, key: str, norm: str) -> list[Leaf]:
    """A convolution and the batch norm behind it."""
    return [
        Leaf(f"image/{path}/kernel", (f"{key}.weight",), CONVOLUTION),
        *layout.norm(f"image/{path}", norm),
        Leaf(f"image/{path}/mean", (f"{norm}.running_mean",)),
        Leaf(f"image/{path}/var", (f"{norm}.running_var",)),
    ]
