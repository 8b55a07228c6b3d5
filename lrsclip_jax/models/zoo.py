"""The models by name: `create("vitb16", text={"context_length": 248})`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from lrsclip_jax.errors import InputError, nearest
from lrsclip_jax.models.clip import CLIP
from lrsclip_jax.models.layers import ACTIVATIONS
from lrsclip_jax.models.text import TextTransformer
from lrsclip_jax.models.vit import ViT

_B = {"width": 768, "layers": 12, "heads": 12, "embed_dim": 512}
_L = {"width": 1024, "layers": 24, "heads": 16, "embed_dim": 768, "patch": 14}
_B_TEXT = {"width": 512, "layers": 12, "heads": 8, "embed_dim": 512}
_L_TEXT = {"width": 768, "layers": 12, "heads": 12, "embed_dim": 768}

# name: (fields of the image tower, fields of the text tower), over the defaults of ViT and TextTransformer
_MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "vitb32": (_B | {"patch": 32}, _B_TEXT),
    "vitb16": (_B | {"patch": 16}, _B_TEXT),
    "vitl14": (_L, _L_TEXT),
    "vitl14_336": (_L | {"size": 336}, _L_TEXT),
    "vith14": (
        {"patch": 14, "width": 1280, "layers": 32, "heads": 16, "embed_dim": 1024, "activation": "gelu"},
        {"width": 1024, "layers": 24, "heads": 16, "embed_dim": 1024, "activation": "gelu"},
    ),
    # DINOv2's image tower (LayerScale is folded into the weights when they are loaded) beside a small text tower
    "vits14": (
        {
            "patch": 14,
            "width": 384,
            "layers": 12,
            "heads": 6,
            "embed_dim": 384,
            "activation": "gelu",
            "norm_eps": 1e-6,
            "patch_bias": True,
            "pre_norm": False,
        },
        {"width": 384, "layers": 6, "heads": 6, "embed_dim": 384},
    ),
    "tiny": (
        {"size": 64, "patch": 8, "width": 64, "layers": 2, "heads": 2, "embed_dim": 64},
        {"width": 64, "layers": 2, "heads": 2, "embed_dim": 64},
    ),
}


def names() -> list[str]:
    """The names that `create` knows."""
    return list(_MODELS)


def create(
    name: str,
    image: Mapping[str, Any] | None = None,
    text: Mapping[str, Any] | None = None,
    dtype: Any = None,
    logit_scale: float = math.log(1 / 0.07),
) -> CLIP:
    """A model of the zoo, without parameters.

    Args:
      name: one of `names()`.
      image, text: fields of ViT and TextTransformer to replace, e.g. {"size": 112}, {"context_length": 248}.
      dtype: compute dtype of both towers (a dtype or its name); None is float32.
      logit_scale: initial value of the parameter, in log space.

    Raises:
      InputError: unknown model, field or activation; towers that end in different widths.
    """
    if name not in _MODELS:
        raise InputError(f"unknown model {name!r}{nearest(name, _MODELS)}; known are {', '.join(_MODELS)}")
    image_fields, text_fields = _MODELS[name]
    dtype = jnp.dtype(dtype or jnp.float32)
    image_tower = _tower(ViT, "image", {"dtype": dtype} | image_fields | dict(image or {}))
    text_tower = _tower(TextTransformer, "text", {"dtype": dtype} | text_fields | dict(text or {}))
    if image_tower.embed_dim != text_tower.embed_dim:
        raise InputError(
            f"model {name!r}: image.embed_dim is {image_tower.embed_dim}, text.embed_dim is "
            f"{text_tower.embed_dim}; they must be equal"
        )
    return CLIP(image_tower, text_tower, logit_scale)


def _tower(module: type, role: str, fields: dict[str, Any]) -> Any:
    known = [field.name for field in dataclasses.fields(module) if field.name not in ("parent", "name")]
    for key in fields:
        if key not in known:
            raise InputError(f"{role} tower has no field {key!r}{nearest(key, known)}; it has {', '.join(known)}")
    activation = fields.get("activation", module.activation)
    if activation not in ACTIVATIONS:
        raise InputError(f"{role} tower: unknown activation {activation!r}; known are {', '.join(ACTIVATIONS)}")
    return module(**fields)
