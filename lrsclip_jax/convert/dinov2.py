"""A DINOv2 image tower out of a Hugging Face safetensors file."""

from __future__ import annotations

import os
import re

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from lrsclip_jax.errors import InputError
from lrsclip_jax.models.positions import resize_positions


def dinov2_image_tower(path: str | os.PathLike[str], size: int, heads: int) -> dict:
    """The weights of `models.vit.ViT` (patch bias, no pre_norm, eps 1e-6, exact GELU) from a DINOv2 checkpoint.

    LayerScale has no module here: it multiplies the columns of the two products that write into the residual
    stream, `attention/out` and `mlp/fc2`, kernel and bias, which is the same function. The position table is resized
    to the grid of `size` without antialias, as transformers' `Dinov2Model` does at run time.

    Args:
      path: safetensors file with the key names of transformers' `Dinov2Model`, any float dtype.
      size: image side in pixels, a multiple of the patch.
      heads: number of attention heads, which the file does not tell (6 in ViT-S, 12 in B, 16 in L).

    Returns:
      Nested dict of float32 arrays: every leaf of `params["image"]` except `projection`, which DINOv2 has not.

    Raises:
      InputError: unreadable file, missing or unexpected keys (the first ten are named), shapes that do not fit
        together, a size that is not a multiple of the patch, heads that do not divide the width.
    """
    tensors = _read(path)
    width, patch = tensors["embeddings.patch_embeddings.projection.weight"].shape[::3]
    depth = 1 + max(int(key.split(".")[2]) for key in tensors if key.startswith("encoder.layer."))
    if width % heads:
        raise InputError(f"{path}: width {width} does not divide into {heads} heads")
    if size % patch:
        raise InputError(f"{path}: image size {size} is not a multiple of its patch {patch}")

    def stacked(name: str) -> np.ndarray:
        return np.stack([tensors[f"encoder.layer.{i}.{name}"] for i in range(depth)])

    def dense(name: str) -> tuple[np.ndarray, np.ndarray]:
        return stacked(f"{name}.weight").swapaxes(1, 2), stacked(f"{name}.bias")

    def norm(name: str) -> dict[str, np.ndarray]:
        return {"scale": stacked(f"{name}.weight"), "bias": stacked(f"{name}.bias")}

    kernels, biases = zip(*(dense(f"attention.attention.{part}") for part in ("query", "key", "value")), strict=True)
    out, out_bias = dense("attention.output.dense")
    fc1, fc1_bias = dense("mlp.fc1")
    fc2, fc2_bias = dense("mlp.fc2")
    scale1, scale2 = stacked("layer_scale1.lambda1"), stacked("layer_scale2.lambda1")
    head = (heads, width // heads)
    return {
        "patch_embedding": {
            "kernel": tensors["embeddings.patch_embeddings.projection.weight"].transpose(2, 3, 1, 0),
            "bias": tensors["embeddings.patch_embeddings.projection.bias"],
        },
        "class_embedding": tensors["embeddings.cls_token"].reshape(width),
        "position_embedding": resize_positions(
            tensors["embeddings.position_embeddings"][0], size // patch, antialias=False
        ),
        "blocks": {
            "norm1": norm("norm1"),
            "attention": {
                "qkv": {
                    "kernel": np.stack(kernels, axis=2).reshape(depth, width, 3, *head),
                    "bias": np.stack(biases, axis=1).reshape(depth, 3, *head),
                },
                "out": {"kernel": (out * scale1[:, None]).reshape(depth, *head, width), "bias": out_bias * scale1},
            },
            "norm2": norm("norm2"),
            "mlp": {
                "fc1": {"kernel": fc1, "bias": fc1_bias},
                "fc2": {"kernel": fc2 * scale2[:, None], "bias": fc2_bias * scale2},
            },
        },
        "post_norm": {"scale": tensors["layernorm.weight"], "bias": tensors["layernorm.bias"]},
    }


def _read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """All tensors of the file in float32, after checking that they are one complete DINOv2 tower."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read as safetensors: {error}") from error
    tensors.pop("embeddings.mask_token", None)  # used in pre-training only
    expected = _shapes(tensors)
    missing, unexpected = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    for what, keys in (("lacks", missing), ("has unexpected", unexpected)):
        if keys:
            more = f" and {len(keys) - 10} more" if len(keys) > 10 else ""
            raise InputError(f"{path}: not a DINOv2 checkpoint: {what} {', '.join(keys[:10])}{more}")
    for key, shape in expected.items():
        if tensors[key].shape != shape:
            raise InputError(f"{path}: {key} has shape {list(tensors[key].shape)}, must be {list(shape)}")
    return {key: tensor.astype(np.float32) for key, tensor in tensors.items()}


def _shapes(tensors: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Every key that a DINOv2 tower of this file's width, depth, patch and grid has, with its shape."""

    def size(key: str, axis: int) -> int:
        shape = tensors[key].shape if key in tensors else ()
        return shape[axis] if axis < len(shape) else 0

    patch_weight, position = "embeddings.patch_embeddings.projection.weight", "embeddings.position_embeddings"
    width, patch = size(patch_weight, 0), size(patch_weight, 3)
    mlp_width = size("encoder.layer.0.mlp.fc1.weight", 0)
    layers = [int(found[1]) for key in tensors if (found := re.match(r"encoder\.layer\.(\d+)\.", key))]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, width),
        position: (1, size(position, 1), width),
        patch_weight: (width, 3, patch, patch),
        "embeddings.patch_embeddings.projection.bias": (width,),
        "layernorm.weight": (width,),
        "layernorm.bias": (width,),
    }
    products = {
        "attention.attention.query": (width, width),
        "attention.attention.key": (width, width),
        "attention.attention.value": (width, width),
        "attention.output.dense": (width, width),
        "mlp.fc1": (mlp_width, width),
        "mlp.fc2": (width, mlp_width),
    }
    for layer in range(1 + max(layers, default=0)):
        prefix = f"encoder.layer.{layer}."
        for name, shape in products.items():
            shapes |= {f"{prefix}{name}.weight": shape, f"{prefix}{name}.bias": shape[:1]}
        for name in ("norm1", "norm2"):
            shapes |= {f"{prefix}{name}.weight": (width,), f"{prefix}{name}.bias": (width,)}
        for name in ("layer_scale1", "layer_scale2"):
            shapes[f"{prefix}{name}.lambda1"] = (width,)
    return shapes
