"""The image tower of MAE, and any other plain Vision Transformer in timm's layout."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

from eval.reading import convert
from lrsclip_jax.data.preprocessing import IMAGENET_PREPROCESSING, Preprocessing
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.pytorch import layout
from lrsclip_jax.pytorch.contract import Hints, ReadCheckpoint
from lrsclip_jax.pytorch.families import tower_fields
from lrsclip_jax.pytorch.families.tower_fields import Deviation, Mean, image_sizes
from lrsclip_jax.pytorch.files.tensors import Tensors
from lrsclip_jax.pytorch.layout import CONVOLUTION, IN_BATCH, TOKEN, Leaf

FAMILY = "MAE"

# MAE's models_mae.py: (width, layers) to heads, of ViT-B/16, L/16 and H/14.
_PUBLISHED_HEADS = {(768, 12): 12, (1024, 24): 16, (1280, 32): 16}

# The decoder and what it sees of masked patches; the heads of classifiers.
_UNUSED = re.compile(r"decoder_.*|mask_token|head\..*")

# Towers that begin with the same patch embedding, by a key that they alone have.
_RELATIVES = {
    "a ViTAE": re.compile(r".*\.PCM\..*"),
    "an RVSA tower": re.compile(r".*\.(sampling_(offsets|scales|angles)\..*|rel_pos_[hw])"),
    "a Swin": re.compile(r"(encoder\.)?layers\.\d+\.blocks\..*"),
    "a BEiT": re.compile(r".*(\.gamma_1|\.relative_position_bias_table)"),
    "a ViTAE or RVSA tower": re.compile(r"encoder\.patch_embed\..*"),
}


def recognises(tensors: Tensors) -> bool:
    """Whether a patch embedding and blocks have timm's names; those with LayerScale as well are DINOv2's."""
    named = any(re.fullmatch(r"(encoder\.)?patch_embed\.proj\.weight", key) for key in tensors)
    return named and not any(key.endswith(".ls1.gamma") for key in tensors)


def read(tensors: Tensors, config: dict[str, Any] | None, hints: Hints, folder: Path) -> ReadCheckpoint:
    """Returns the image tower, without a projection, of a MAE checkpoint or of what was tuned from one.

    Exact GELU and eps 1e-6 are the family's; mean and standard deviation are ImageNet's, unless timm's config says
    others. Heads are known of the published models; for other widths a hint must say them. A model tuned with `fc_norm`
    averages its patch tokens, one with `norm` takes the class token.

    Args:
      tensors: of a file that `recognises` accepts.
      config: timm's config.json, or None.
      hints: what the user says.
      folder: where the file lies; nothing else in it matters.

    Raises:
      InputError: a relative with another architecture (named), missing, unexpected or misshapen tensors, heads that
        nothing tells.
    """
    for name, pattern in _RELATIVES.items():
        if key := next((key for key in tensors if pattern.fullmatch(key)), None):
            raise InputError(
                f"{tensors.name} is {name} (it has {key}), not a plain ViT as MAE's: it can't be converted"
            )
    final_norm = "fc_norm" if "fc_norm.weight" in tensors else "norm"
    whole = table(final_norm)
    sizes = image_sizes(whole, tensors)
    width = sizes["width"]
    published = _PUBLISHED_HEADS.get((width, sizes["layers"]))
    known = "MAE's ViT-B has 12, L and H 16"
    heads, reason = tower_fields.heads(tensors, "image", width, published, "MAE's", hints.image_heads, known)
    activation, _ = tower_fields.activation(tensors, "gelu", "MAE's", hints.activation)
    image = sizes | {"heads": heads, "activation": activation, "norm_eps": 1e-6, "patch_bias": True, "pre_norm": False}
    image |= {"pool": "mean" if final_norm == "fc_norm" else "cls"}
    shapes = layout.shapes(zoo.create("tiny", image=image))
    unused = tuple(sorted(key for key in tensors if _UNUSED.fullmatch(key)))
    layout.check(whole, shapes, tensors, "a MAE or plain timm ViT checkpoint", unused)
    preprocessing, pixels_reason = _preprocessing(tensors, config, sizes["size"])
    return ReadCheckpoint(
        family=FAMILY,
        params=layout.to_ours(whole, shapes, tensors),
        image=image,
        preprocessing=preprocessing,
        antialias=False,  # MAE's util/pos_embed.py
        reasons={
            "image.heads": reason,
            "image.activation": "MAE's",
            "image.norm_eps": "MAE's",
            "image.pool": f"{final_norm}.weight",
            "preprocessing": pixels_reason,
        },
        unused=unused,
    )


def table(final_norm: str = "norm") -> list[Leaf]:
    """Returns where the parameters of an image tower but its projection stand in timm's ViT; `final_norm` is a key."""
    blocks, theirs = "image/blocks", "blocks.{}"
    return [
        Leaf("image/patch_embedding/kernel", ("patch_embed.proj.weight",), CONVOLUTION),
        Leaf("image/patch_embedding/bias", ("patch_embed.proj.bias",)),
        Leaf("image/class_embedding", ("cls_token",), TOKEN),
        Leaf("image/position_embedding", ("pos_embed",), IN_BATCH),
        *layout.norm(f"{blocks}/norm1", f"{theirs}.norm1"),
        *layout.attention(f"{blocks}/attention", [f"{theirs}.attn.qkv"], f"{theirs}.attn.proj"),
        *layout.norm(f"{blocks}/norm2", f"{theirs}.norm2"),
        *layout.dense(f"{blocks}/mlp/fc1", f"{theirs}.mlp.fc1"),
        *layout.dense(f"{blocks}/mlp/fc2", f"{theirs}.mlp.fc2"),
        *layout.norm("image/post_norm", final_norm),
    ]


class _Pretrained(TypedDict, total=False):
    mean: tuple[Mean, Mean, Mean]
    std: tuple[Deviation, Deviation, Deviation]


class _TimmConfig(TypedDict, total=False):
    """What is read of timm's config.json."""

    pretrained_cfg: _Pretrained | None


def _preprocessing(tensors: Tensors, config: dict[str, Any] | None, size: int) -> tuple[Preprocessing, str]:
    said: _TimmConfig = convert(config or {}, f"{tensors.name}: {tower_fields.CONFIG}", _TimmConfig)
    timm = said.get("pretrained_cfg") or {}
    if "mean" in timm and "std" in timm:
        return Preprocessing(size, timm["mean"], timm["std"]), tower_fields.CONFIG
    return replace(IMAGENET_PREPROCESSING, size=size), "MAE's"
