"""DINOv3's image tower (arXiv 2508.10104), under Hugging Face's key names or its authors'."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypedDict

import msgspec
import numpy as np

from eval.reading import convert
from lrsclip_jax.data.preprocessing import IMAGENET_PREPROCESSING, Preprocessing
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.pytorch import layout
from lrsclip_jax.pytorch.contract import Hints, ReadCheckpoint
from lrsclip_jax.pytorch.families import dinov2, tower_fields
from lrsclip_jax.pytorch.families.preprocessor import normalisation
from lrsclip_jax.pytorch.families.tower_fields import image_sizes
from lrsclip_jax.pytorch.files.tensors import Tensors
from lrsclip_jax.pytorch.layout import CONVOLUTION, IN_BATCH, QKV_BIAS, TOKEN, Leaf

FAMILY = "DINOv3"

_SATELLITE = Preprocessing(size=224, mean=(0.430, 0.411, 0.296), std=(0.213, 0.156, 0.143))
_SATELLITE_DATA = "sat493m"  # in the names of the repositories and files of these weights
_BASE = 100.0
_SCALE = re.compile(r"(model\.)?layer\.\d+\.layer_scale1\.lambda1")
_PERIODS = "rope_embed.periods"  # of its authors' files, which alone have it
_MASK = "image/blocks/attention/qkv/mask"  # by which its authors multiply the bias
_UNUSED = ("embeddings.mask_token", "mask_token", _PERIODS)
_REGISTERS = ("embeddings.register_tokens", "storage_tokens")  # unused where there are none of them


class _Config(TypedDict, total=False):
    """The settings of a DINOv3ViTConfig that no other model has."""

    image_size: Annotated[int, msgspec.Meta(ge=1, le=1 << 14)]
    rope_theta: Annotated[float, msgspec.Meta(ge=1, le=1e9)]


def recognises(tensors: Tensors) -> bool:
    """Whether there are rotary periods, or blocks whose LayerScale has the name in a DINOv3ViTModel."""
    return _PERIODS in tensors or any(_SCALE.fullmatch(key) for key in tensors)


def read(tensors: Tensors, config: dict[str, Any] | None, hints: Hints, folder: Path) -> ReadCheckpoint:
    """Returns DINOv3's image tower, without a projection.

    LayerScale is folded as DINOv2's (`dinov2.folded`). The key's bias, which DINOv3 has not, is zero. Rotary periods
    are computed from their base, as transformers does; in its authors' files they are rounded to bfloat16. The
    satellite weights are known by their preprocessor_config.json, else by "sat493m" in the file's path.

    Args:
      tensors: of a file that `recognises` accepts.
      config: transformers' config.json; without one GELU, eps 1e-5, base 100 and 224 pixels are DINOv3's, and a hint
        must say the heads of a file of transformers.
      hints: what the user says.
      folder: where the file lies.

    Raises:
      InputError: a variant with other layers (the 7B), missing, unexpected or misshapen tensors, heads that nothing
        tells.
    """
    tensors = tensors.renamed(lambda key: re.sub(r"^model\.layer\.", "layer.", key))  # transformers 5 in memory
    authors = _PERIODS in tensors
    leaves = _authors_table(tensors) if authors else table_of(tensors)
    image, reasons = (
        _authors_fields(leaves, tensors, hints) if authors else image_fields(leaves, tensors, config, hints)
    )
    tensors = tensors if authors else with_key_biases(tensors, image)
    shapes = layout.shapes(zoo.create("tiny", image=image)) | dinov2.scale_shapes(image)
    shapes[_MASK] = shapes["image/blocks/attention/qkv/bias"]
    unused = tuple(key for key in (*_UNUSED, *([] if image["registers"] else _REGISTERS)) if key in tensors)
    layout.check(leaves, shapes, tensors, "a DINOv3 checkpoint of these layers", unused)
    satellite = _SATELLITE_DATA in tensors.name
    preprocessing, reason = normalisation(folder, image["size"], _SATELLITE if satellite else IMAGENET_PREPROCESSING)
    if satellite and reason == "the family's":
        reason = f"{_SATELLITE_DATA} in its path"
    return ReadCheckpoint(
        family=FAMILY,
        params=dinov2.folded(_masked(layout.to_ours(leaves, shapes, tensors))),
        image=image,
        preprocessing=preprocessing,
        reasons=reasons | {"preprocessing": reason},
        unused=unused,
    )


def table(registers: int, gated: bool, prefix: str = "") -> list[Leaf]:
    """Returns where the parameters of an image tower but its projection stand in a DINOv3ViTModel.

    LayerScale is folded into them as DINOv2's. `prefix` stands before every key.
    """
    blocks, layer, first = "image/blocks", f"{prefix}layer.{{}}", f"{prefix}embeddings"
    return [
        *_tokens(f"{first}.patch_embeddings", f"{first}.cls_token", f"{first}.register_tokens", registers),
        *layout.attention(
            f"{blocks}/attention", [f"{layer}.attention.{part}_proj" for part in "qkv"], f"{layer}.attention.o_proj"
        ),
        *layout.dense(f"{blocks}/mlp/fc1", f"{layer}.mlp.up_proj"),
        *(layout.dense(f"{blocks}/mlp/gate", f"{layer}.mlp.gate_proj") if gated else []),
        *layout.dense(f"{blocks}/mlp/fc2", f"{layer}.mlp.down_proj"),
        *dinov2.scales(f"{layer}.layer_scale1.lambda1", f"{layer}.layer_scale2.lambda1"),
        *_norms(layer, f"{prefix}norm"),
    ]


def table_of(tensors: Tensors, prefix: str = "") -> list[Leaf]:
    """Returns `table` for the registers and MLPs that a file has."""
    gated = f"{prefix}layer.0.mlp.gate_proj.weight" in tensors
    return table(_number(tensors, f"{prefix}embeddings.register_tokens"), gated, prefix)


def image_fields(
    leaves: list[Leaf], tensors: Tensors, config: dict[str, Any] | None, hints: Hints
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the fields of `models.vit.ViT` but embed_dim, and where they come from.

    Args:
      leaves: of the tower, under transformers' names.
      tensors: the file.
      config: of the tower, or None.
      hints: what the user says.

    Raises:
      InputError: see `read`.
    """
    told = tower_fields.checked(tensors, config or {})
    convert(told, f"{tensors.name}: {tower_fields.CONFIG}", _Config)
    source = tower_fields.CONFIG if told else "DINOv3's"
    heads = told.get("num_attention_heads", 6 if told else None), source  # an absent key has transformers' default
    return _fields(leaves, tensors, {"hidden_act": "gelu"} | told if told else {}, source, heads, hints)


def with_key_biases(tensors: Tensors, image: Mapping[str, Any], prefix: str = "") -> Tensors:
    """Returns the tensors with zeros for the biases of the keys where a file has none, as DINOv3's."""
    keys = [f"{prefix}layer.{layer}.attention.k_proj.bias" for layer in range(image["layers"])]
    there = any(key in tensors for key in keys)
    return tensors if there else tensors.with_zeros(dict.fromkeys(keys, (image["width"],)))


def _authors_fields(leaves: list[Leaf], tensors: Tensors, hints: Hints) -> tuple[dict[str, Any], dict[str, str]]:
    width = image_sizes(leaves, tensors)["width"]
    return _fields(leaves, tensors, {}, "DINOv3's", (_heads(tensors, width), _PERIODS), hints)


def _fields(
    leaves: list[Leaf],
    tensors: Tensors,
    told: Mapping[str, Any],
    source: str,
    said: tuple[int | None, str],
    hints: Hints,
) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields of a tower; `told` is its config, `said` its heads and what says them."""
    keys = {leaf.path: leaf.keys[0] for leaf in leaves}
    gated = "image/blocks/mlp/gate/kernel" in keys
    sizes = image_sizes(leaves, tensors)
    known = "ViT-S/16 has 6, B/16 12, L/16 16"
    heads, reason = tower_fields.heads(tensors, "image", sizes["width"], *said, hints.image_heads, known)
    activation = told.get("hidden_act", "silu" if gated else "gelu")
    if activation != "silu":  # which no other family has
        activation, _ = tower_fields.activation(tensors, activation, source, hints.activation)
    fields = {
        "size": told.get("image_size", 224),
        "heads": heads,
        "activation": activation,
        "norm_eps": told.get("layer_norm_eps", 1e-5),
        "patch_bias": True,
        "pre_norm": False,
        "pool": "cls",
        "registers": _number(tensors, keys.get("image/register_embedding", "")),
        "rotary_base": float(told.get("rope_theta", _BASE)),
        "gated": gated,
    }
    reasons = {f"image.{field}": source for field in ("activation", "norm_eps", "rotary_base", "size")}
    return sizes | fields, {"image.heads": reason} | reasons


def _number(tensors: Tensors, key: str) -> int:
    """How many tokens a tensor [1, tokens, width] holds."""
    return tensors.shape(key)[1] if key in tensors and len(tensors.shape(key)) == 3 else 0


def _authors_table(tensors: Tensors) -> list[Leaf]:
    gated = "blocks.0.mlp.w3.weight" in tensors
    blocks, layer = "image/blocks", "blocks.{}"
    fc1, gate, fc2 = ("w2", "w1", "w3") if gated else ("fc1", "", "fc2")
    mask = "attn.qkv.bias_mask"
    return [
        *_tokens("patch_embed.proj", "cls_token", "storage_tokens", _number(tensors, "storage_tokens")),
        *layout.attention(f"{blocks}/attention", [f"{layer}.attn.qkv"], f"{layer}.attn.proj"),
        *([Leaf(_MASK, (f"{layer}.{mask}",), QKV_BIAS)] if any(key.endswith(mask) for key in tensors) else []),
        *layout.dense(f"{blocks}/mlp/fc1", f"{layer}.mlp.{fc1}"),
        *(layout.dense(f"{blocks}/mlp/gate", f"{layer}.mlp.{gate}") if gated else []),
        *layout.dense(f"{blocks}/mlp/fc2", f"{layer}.mlp.{fc2}"),
        *dinov2.scales(f"{layer}.ls1.gamma", f"{layer}.ls2.gamma"),
        *_norms(layer, "norm"),
    ]


def _tokens(patches: str, first: str, registers: str, number: int) -> list[Leaf]:
    return [
        Leaf("image/patch_embedding/kernel", (f"{patches}.weight",), CONVOLUTION),
        Leaf("image/patch_embedding/bias", (f"{patches}.bias",)),
        Leaf("image/class_embedding", (first,), TOKEN),
        *([Leaf("image/register_embedding", (registers,), IN_BATCH)] if number else []),
    ]


def _norms(layer: str, last: str) -> list[Leaf]:
    blocks = "image/blocks"
    return [
        *layout.norm(f"{blocks}/norm1", f"{layer}.norm1"),
        *layout.norm(f"{blocks}/norm2", f"{layer}.norm2"),
        *layout.norm("image/post_norm", last),
    ]


def _heads(tensors: Tensors, width: int) -> int | None:
    """The heads that rotary periods show, of which there is one for four channels; InputError for another base."""
    periods = tensors[_PERIODS].astype(np.float32)
    expected = _BASE ** (np.arange(periods.size) / max(periods.size, 1))
    if periods.ndim != 1 or not periods.size or not np.allclose(periods, expected, rtol=0.01):
        raise InputError(f"{tensors.name}: {_PERIODS} are not those of a base of {_BASE:g}, DINOv3's")
    return width // (4 * periods.size) or None


def _masked(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters whose bias of query, key and value is multiplied by its mask, if there is one; changes these."""
    qkv = params["image"]["blocks"]["attention"]["qkv"]
    if "mask" in qkv:
        qkv["bias"] *= qkv.pop("mask")
    return params
