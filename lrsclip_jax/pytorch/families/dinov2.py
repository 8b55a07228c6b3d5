"""DINOv2's image tower, with registers or without, under Hugging Face's key names or its authors'."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lrsclip_jax.data.preprocessing import IMAGENET_PREPROCESSING
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.pytorch import layout
from lrsclip_jax.pytorch.contract import Hints, ReadCheckpoint
from lrsclip_jax.pytorch.families import mae, tower_fields
from lrsclip_jax.pytorch.families.preprocessor import normalisation
from lrsclip_jax.pytorch.families.tower_fields import image_sizes
from lrsclip_jax.pytorch.files.tensors import Tensors
from lrsclip_jax.pytorch.layout import CONVOLUTION, IN_BATCH, TOKEN, Leaf

FAMILY = "DINOv2"

# Width to heads, of ViT-S/14, B/14 and L/14 in DINOv2's model code.
_PUBLISHED_HEADS = {384: 6, 768: 12, 1024: 16}

# Tokens that replace masked patches in pre-training.
_MASK_TOKENS = ("embeddings.mask_token", "mask_token")

_REGISTERS = ("embeddings.register_tokens", "register_tokens")
_VARIANTS = {
    "register tokens": re.compile(r".*(register_tokens|reg_token)"),  # under a name that the table does not have
    "a SwiGLU": re.compile(r".*\.mlp\.(weights_in|w12|gate_proj|fc1_g)\..*"),
}
_SCALES = ("image/blocks/scale1", "image/blocks/scale2")


def recognises(tensors: Tensors) -> bool:
    """Whether the blocks have LayerScale under the names that Hugging Face or DINOv2's authors give it."""
    return any(
        re.fullmatch(r"encoder\.layer\.\d+\.layer_scale1\.lambda1|blocks\.\d+\.ls1\.gamma", key) for key in tensors
    )


def read(tensors: Tensors, config: dict[str, Any] | None, hints: Hints, folder: Path) -> ReadCheckpoint:
    """Returns DINOv2's image tower, without a projection.

    LayerScale has no module here: it multiplies the columns of the two products that write into the residual stream,
    `attention/out` and `mlp/fc2`, kernel and bias, which is the same function.

    Args:
      tensors: of a file that `recognises` accepts.
      config: transformers' config.json; without one, GELU and eps 1e-6 are DINOv2's, and heads those of its published
        widths.
      hints: what the user says.
      folder: where the file lies.

    Raises:
      InputError: a variant with a SwiGLU; missing, unexpected or misshapen tensors; heads that nothing tells.
    """
    authors = any(key.endswith(".ls1.gamma") for key in tensors)
    if authors:
        leaves = [*mae.table(), *scales("blocks.{}.ls1.gamma", "blocks.{}.ls2.gamma")]
    else:
        leaves = [*table(), *layer_scales()]
    registers = next((key for key in _REGISTERS if key in tensors), None)
    leaves += [Leaf("image/register_embedding", (registers,), IN_BATCH)] if registers else []
    tensors = with_saved_names(tensors)
    image, reasons = image_fields(leaves, tensors, config, hints)
    shapes = layout.shapes(zoo.create("tiny", image=image)) | scale_shapes(image)
    unused = tuple(key for key in _MASK_TOKENS if key in tensors)
    layout.check(leaves, shapes, tensors, "a DINOv2 checkpoint", unused)
    preprocessing, reason = normalisation(folder, image["size"], IMAGENET_PREPROCESSING)
    return ReadCheckpoint(
        family=FAMILY,
        params=folded(layout.to_ours(leaves, shapes, tensors)),
        image=image,
        preprocessing=preprocessing,
        antialias=registers is not None,  # as transformers' models, and its authors' code
        reasons=reasons | {"preprocessing": reason},
        unused=unused,
    )


def table(prefix: str = "") -> list[Leaf]:
    """Returns where the parameters of an image tower but its projection stand in transformers' Dinov2Model.

    Its LayerScale is folded into them: see `layer_scales`. `prefix` stands before every key.
    """
    embeddings, blocks, layer = f"{prefix}embeddings", "image/blocks", f"{prefix}encoder.layer.{{}}"
    return [
        Leaf("image/patch_embedding/kernel", (f"{embeddings}.patch_embeddings.projection.weight",), CONVOLUTION),
        Leaf("image/patch_embedding/bias", (f"{embeddings}.patch_embeddings.projection.bias",)),
        Leaf("image/class_embedding", (f"{embeddings}.cls_token",), TOKEN),
        Leaf("image/position_embedding", (f"{embeddings}.position_embeddings",), IN_BATCH),
        *layout.norm(f"{blocks}/norm1", f"{layer}.norm1"),
        *layout.attention(
            f"{blocks}/attention",
            [f"{layer}.attention.attention.{part}" for part in ("query", "key", "value")],
            f"{layer}.attention.output.dense",
        ),
        *layout.norm(f"{blocks}/norm2", f"{layer}.norm2"),
        *layout.dense(f"{blocks}/mlp/fc1", f"{layer}.mlp.fc1"),
        *layout.dense(f"{blocks}/mlp/fc2", f"{layer}.mlp.fc2"),
        *layout.norm("image/post_norm", f"{prefix}layernorm"),
    ]


def layer_scales(prefix: str = "") -> list[Leaf]:
    """Returns where LayerScale stands in a Dinov2Model, for parameters before `folded` or after `with_unit_scales`."""
    layer = f"{prefix}encoder.layer.{{}}"
    return scales(f"{layer}.layer_scale1.lambda1", f"{layer}.layer_scale2.lambda1")


def scale_shapes(image: Mapping[str, Any]) -> dict[str, layout.Shape]:
    """Returns the shapes of what `layer_scales` names, for the fields of an image tower."""
    return dict.fromkeys(_SCALES, (image["layers"], image["width"]))


def folded(params: dict[str, Any]) -> dict[str, Any]:
    """Returns parameters whose LayerScale is multiplied into the two products before it; changes these in place."""
    blocks = params["image"]["blocks"]
    for scale, product in (("scale1", blocks["attention"]["out"]), ("scale2", blocks["mlp"]["fc2"])):
        gamma = blocks.pop(scale)  # [layers, width]
        product["kernel"] *= gamma.reshape(len(gamma), *(1,) * (product["kernel"].ndim - 2), -1)
        product["bias"] *= gamma
    return params


def with_unit_scales(params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns parameters with the LayerScale that changes nothing."""
    blocks = params["image"]["blocks"]
    ones = np.ones_like(blocks["mlp"]["fc2"]["bias"])
    return {**params, "image": {**params["image"], "blocks": {**blocks, "scale1": ones, "scale2": ones}}}


def with_saved_names(tensors: Tensors) -> Tensors:
    """Returns the tensors as files name them: in memory, transformers 5 calls four layers of attention otherwise."""
    names = {"q": "attention.query", "k": "attention.key", "v": "attention.value", "o": "output.dense"}
    return tensors.renamed(lambda key: re.sub(r"(?<=attention\.)([qkvo])_proj", lambda it: names[it[1]], key))


def image_fields(
    leaves: list[Leaf], tensors: Tensors, config: dict[str, Any] | None, hints: Hints
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the fields of `models.vit.ViT` but embed_dim, and where they come from.

    Args:
      leaves: of the tower, under the names of the file.
      tensors: the file.
      config: of the tower, or None.
      hints: what the user says.

    Raises:
      InputError: see `read`.
    """
    registers = next((leaf.keys[0] for leaf in leaves if leaf.path == "image/register_embedding"), None)
    for variant, pattern in _VARIANTS.items():
        if key := next((key for key in tensors if pattern.fullmatch(key) and key != registers), None):
            raise InputError(f"{tensors.name}: a DINOv2 with {variant} ({key}) is not supported, the plain ViTs are")
    sizes = image_sizes(leaves, tensors)
    width = sizes["width"]
    if (config or {}).get("model_type") in ("dinov2", "dinov2_with_registers"):
        source = tower_fields.CONFIG
        told = tower_fields.checked(tensors, config or {})
        said: dict[str, Any] = {"num_attention_heads": 12} | told  # an absent key has transformers' default
    else:
        source, said = "DINOv2's", {"num_attention_heads": _PUBLISHED_HEADS.get(width)}
    heads, heads_reason = tower_fields.heads(
        tensors, "image", width, said["num_attention_heads"], source, hints.image_heads, "ViT-S/14 6, B/14 12, L/14 16"
    )
    activation, _ = tower_fields.activation(tensors, said.get("hidden_act", "gelu"), source, hints.activation)
    fields = {"heads": heads, "activation": activation, "norm_eps": said.get("layer_norm_eps", 1e-6)}
    reasons = {"image.heads": heads_reason, "image.activation": source, "image.norm_eps": source}
    if registers:
        fields["registers"] = int(np.prod(tensors.shape(registers)[:-1]))
    return sizes | fields | {"patch_bias": True, "pre_norm": False, "pool": "cls"}, reasons


def scales(*keys: str) -> list[Leaf]:
    """Returns where the two scales of a block stand under other names."""
    return [Leaf(path, (key,)) for path, key in zip(_SCALES, keys, strict=True)]
