"""The models by name: `create("vitb16", text={"context_length": 248})`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from lrsclip_jax.errors import InputError, nearest
from lrsclip_jax.models.bert_tower import Bert
from lrsclip_jax.models.clip import CLIP
from lrsclip_jax.models.layers import ACTIVATIONS
from lrsclip_jax.models.text import TextTransformer
from lrsclip_jax.models.vit import ViT

TEXT_TOWERS: dict[str, Any] = {"transformer": TextTransformer, "bert": Bert}  # by "kind", the first where none is said

_B = {"width": 768, "layers": 12, "heads": 12, "embed_dim": 512}
_L = {"width": 1024, "layers": 24, "heads": 16, "embed_dim": 768, "patch": 14}
_B_TEXT = {"width": 512, "layers": 12, "heads": 8, "embed_dim": 512}
_L_TEXT = {"width": 768, "layers": 12, "heads": 12, "embed_dim": 768}

# A plain ViT: MAE's and DINOv2's (whose LayerScale is folded into the weights when they are loaded).
_PLAIN = {"activation": "gelu", "norm_eps": 1e-6, "patch_bias": True, "pre_norm": False}
_S = _PLAIN | {"patch": 14, "width": 384, "layers": 12, "heads": 6, "embed_dim": 384}

# name: (fields of the image tower, fields of the text tower), over the defaults of their classes
_MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "vitb32": (_B | {"patch": 32}, _B_TEXT),
    "vitb16": (_B | {"patch": 16}, _B_TEXT),
    "vitl14": (_L, _L_TEXT),
    "vitl14_336": (_L | {"size": 336}, _L_TEXT),
    "vith14": (
        {"patch": 14, "width": 1280, "layers": 32, "heads": 16, "embed_dim": 1024, "activation": "gelu"},
        {"width": 1024, "layers": 24, "heads": 16, "embed_dim": 1024, "activation": "gelu"},
    ),
    # DINOv2's image tower with a small text tower, and with MiniLM
    "vits14": (_S, {"width": 384, "layers": 6, "heads": 6, "embed_dim": 384}),
    "vits14_minilm": (_S, {"kind": "bert", "width": 384, "layers": 6, "heads": 12, "embed_dim": 384}),
    "rsclip_vitb16_448_bert": (_PLAIN | _B | {"patch": 16, "size": 448}, {"kind": "bert", "embed_dim": 512}),
    "tiny": (
        {"size": 64, "patch": 8, "width": 64, "layers": 2, "heads": 2, "embed_dim": 64},
        {"width": 64, "layers": 2, "heads": 2, "embed_dim": 64},
    ),
    "tiny_bert": (
        _PLAIN | {"size": 64, "patch": 8, "width": 64, "layers": 2, "heads": 2, "embed_dim": 64},
        {"kind": "bert", "width": 64, "layers": 2, "heads": 2, "embed_dim": 64},
    ),
    "custom": ({}, {}),  # every field is given
}

# Fields that say how a tower is computed or trained, and not which function it is.
_HOW = ("parent", "name", "dtype", "remat", "attention", "unroll", "products", "token_multiple", "patch_dropout")


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
      image, text: fields of the towers to replace, e.g. {"size": 112}, {"context_length": 248}. "kind" among those of
        text chooses its class.
      dtype: compute dtype of both towers (a dtype or its name); None is float32.
      logit_scale: initial value of the parameter, in log space.

    Raises:
      InputError: unknown model, field or activation; towers that end in different widths.
    """
    if name not in _MODELS:
        raise InputError(f"unknown model {name!r}{nearest(name, _MODELS)}; known: {', '.join(_MODELS)}")
    image_fields, text_fields = _MODELS[name]
    dtype = jnp.dtype(dtype or jnp.float32)
    image_tower = tower("image", image_fields | dict(image or {}), dtype)
    text_tower = tower("text", text_fields | dict(text or {}), dtype)
    if image_tower.embed_dim != text_tower.embed_dim:
        raise InputError(
            f"model {name!r}: image.embed_dim is {image_tower.embed_dim}, text.embed_dim is "
            f"{text_tower.embed_dim}; they must be equal"
        )
    return CLIP(image_tower, text_tower, logit_scale)


def tower(role: str, fields: Mapping[str, Any], dtype: Any = None) -> Any:
    """One tower alone, without parameters: of role "image" or "text", by its fields as in `create`; errors as there."""
    fields = {"dtype": jnp.dtype(dtype or jnp.float32)} | dict(fields)
    module: Any = ViT if role == "image" else _text_class(fields.pop("kind", "transformer"))
    known = [field.name for field in dataclasses.fields(module) if field.name not in ("parent", "name")]
    for key in fields:
        if key not in known:
            raise InputError(f"{role} tower has no field {key!r}{nearest(key, known)}; it has {', '.join(known)}")
    activation = fields.get("activation", module.activation)
    if activation not in ACTIVATIONS:
        raise InputError(f"{role} tower: unknown activation {activation!r}; known: {', '.join(ACTIVATIONS)}")
    return module(**fields)


def fields(model: CLIP) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the fields of image and text tower that shape their function: `create("custom", …)` makes it of them."""
    return _values(model.image), {"kind": text_kind(model)} | _values(model.text)


def text_kind(model: CLIP) -> str:
    """Returns the kind of a model's text tower, a key of TEXT_TOWERS."""
    return next(kind for kind, tower in TEXT_TOWERS.items() if isinstance(model.text, tower))


def _values(tower: Any) -> dict[str, Any]:
    values = {field.name: getattr(tower, field.name) for field in dataclasses.fields(tower) if field.name not in _HOW}
    return values | {"mlp_width": tower.mlp_width or 4 * tower.width}


def _text_class(kind: str) -> Any:
    if kind not in TEXT_TOWERS:
        raise InputError(f"text tower: unknown kind {kind!r}; known: {', '.join(TEXT_TOWERS)}")
    return TEXT_TOWERS[kind]
