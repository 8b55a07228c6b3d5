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
from lrsclip_jax.models.resnet import ResNet
from lrsclip_jax.models.siglip_text import SiglipText
from lrsclip_jax.models.text import TextTransformer
from lrsclip_jax.models.vit import ViT
from lrsclip_jax.models.zoo_table import MODELS

# By "kind", the first where none is said.
IMAGE_TOWERS: dict[str, Any] = {"vit": ViT, "resnet": ResNet}
TEXT_TOWERS: dict[str, Any] = {"transformer": TextTransformer, "bert": Bert, "siglip": SiglipText}

# Fields that say how a tower is computed or trained, and not which function it is.
HOW = (
    *("parent", "name", "dtype", "remat", "attention", "unroll", "products", "token_multiple", "patch_dropout"),
    *("keep", "ratio"),
    *("resolution", "min_patches"),  # which the preprocessing says
)

# Fields that towers of older versions had not: they are left out where they change nothing.
_LATER = {"adapt": (), "bands": (), "registers": 0, "rotary_base": None, "gated": False}


def names() -> list[str]:
    """The names that `create` knows."""
    return list(MODELS)


def create(
    name: str,
    image: Mapping[str, Any] | None = None,
    text: Mapping[str, Any] | None = None,
    dtype: Any = None,
    logit_scale: float = math.log(1 / 0.07),
    logit_bias: float | None = None,
) -> CLIP:
    """A model of the zoo, without parameters.

    Args:
      name: one of `names()`.
      image, text: fields of the towers to replace, e.g. {"size": 112}, {"context_length": 248}. "kind" among them
        chooses a tower's class.
      dtype: compute dtype of both towers (a dtype or its name); None is float32.
      logit_scale: initial value of the parameter, in log space.
      logit_bias: initial value of the parameter that models of the sigmoid loss have; None: there is none.

    Raises:
      InputError: unknown model, field or activation; towers that end in different widths.
    """
    if name not in MODELS:
        raise InputError(f"unknown model {name!r}{nearest(name, MODELS)}; known: {', '.join(MODELS)}")
    image_fields, text_fields = MODELS[name]
    dtype = jnp.dtype(dtype or jnp.float32)
    image_tower = tower("image", image_fields | dict(image or {}), dtype)
    text_tower = tower("text", text_fields | dict(text or {}), dtype)
    if image_tower.embed_dim != text_tower.embed_dim:
        raise InputError(
            f"model {name!r}: image.embed_dim is {image_tower.embed_dim}, text.embed_dim is "
            f"{text_tower.embed_dim}; they must be equal"
        )
    return CLIP(image_tower, text_tower, logit_scale, logit_bias)


def tower(role: str, fields: Mapping[str, Any], dtype: Any = None) -> Any:
    """One tower alone, without parameters: of role "image" or "text", by its fields as in `create`; errors as there."""
    fields = {"dtype": jnp.dtype(dtype or jnp.float32)} | dict(fields)
    module = _class(role, fields.pop("kind", None))
    known = [field.name for field in dataclasses.fields(module) if field.name not in ("parent", "name")]
    for key in fields:
        if key not in known:
            raise InputError(f"{role} tower has no field {key!r}{nearest(key, known)}; it has {', '.join(known)}")
    if "activation" in fields and fields["activation"] not in ACTIVATIONS:
        unknown = f"{role} tower: unknown activation {fields['activation']!r}"
        raise InputError(f"{unknown}; known: {', '.join(ACTIVATIONS)}")
    for name in ("bands", "stages"):
        if name in fields:
            fields[name] = tuple(fields[name])
    return module(**fields)


def fields(model: CLIP) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the fields of image and text tower that shape their function: `create("custom", …)` makes it of them."""
    kind = {"kind": "resnet"} if isinstance(model.image, ResNet) else {}  # of a ViT nothing is said, as of old
    return kind | _values(model.image), {"kind": text_kind(model)} | _values(model.text)


def text_kind(model: CLIP) -> str:
    """Returns the kind of a model's text tower, a key of TEXT_TOWERS."""
    return next(kind for kind, tower in TEXT_TOWERS.items() if isinstance(model.text, tower))


def activation(*towers: Any) -> str | None:
    """Returns the activation that towers share, a ResNet's ReLU aside; None where they have different ones, or none."""
    found = {tower.activation for tower in towers if not isinstance(tower, ResNet)}
    return found.pop() if len(found) == 1 else None


def feature_width(tower: Any) -> int:
    """Returns how many numbers the features of a tower have, before its projection."""
    return tower.feature_width if isinstance(tower, ResNet) else tower.width


def _values(tower: Any) -> dict[str, Any]:
    values = {field.name: getattr(tower, field.name) for field in dataclasses.fields(tower) if field.name not in HOW}
    for name, default in _LATER.items():
        if name in values and values[name] == default:
            del values[name]
    return values | {"mlp_width": tower.mlp_width or 4 * tower.width} if "mlp_width" in values else values


def _class(role: str, kind: str | None) -> Any:
    towers = IMAGE_TOWERS if role == "image" else TEXT_TOWERS
    kind = next(iter(towers)) if kind is None else kind
    if kind not in towers:
        raise InputError(f"{role} tower: unknown kind {kind!r}; known: {', '.join(towers)}")
    return towers[kind]
