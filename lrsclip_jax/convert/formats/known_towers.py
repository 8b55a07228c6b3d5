"""The towers whose every layer has a name in a format: a list of what is expressed, so that new towers are refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from lrsclip_jax.models.bert_tower import Bert
from lrsclip_jax.models.resnet import ResNet
from lrsclip_jax.models.siglip_text import SiglipText
from lrsclip_jax.models.text import TextTransformer
from lrsclip_jax.models.vit import ViT
from lrsclip_jax.models.zoo import HOW

_TOWER = {"width", "layers", "heads", "embed_dim", "mlp_width", "norm_eps", "activation"}
_TEXT = {"vocab_size", "context_length", "frozen_positions"} | _TOWER
_FIELDS: Mapping[type, set[str]] = {
    ViT: {"size", "patch", "patch_bias", "pre_norm", "pool", "registers", "rotary_base", "gated"} | _TOWER,
    ResNet: {"size", "width", "stages", "heads", "embed_dim"},
    TextTransformer: {"end_token"} | _TEXT,
    Bert: {"pool", "positions", "pad_token"} | _TEXT,
    SiglipText: {"pad_token"} | _TEXT,
}
_ACTIVATIONS = ("quick_gelu", "gelu", "gelu_tanh", "silu")
_VALUES: Mapping[type, Mapping[str, tuple[str, ...]]] = {
    ViT: {"activation": _ACTIVATIONS, "pool": ("cls", "mean", "map")},
    ResNet: {},
    TextTransformer: {"activation": _ACTIVATIONS},
    Bert: {"activation": _ACTIVATIONS, "pool": ("pooler", "cls")},
    SiglipText: {"activation": _ACTIVATIONS},
}


def tower_faults(role: str, tower: Any) -> Iterator[str]:
    """Yields why a tower is none of those that are listed here.

    Args:
      role: "image" or "text".
      tower: the module. A field that is not listed must have its default, a listed choice a listed value.
    """
    if type(tower) not in _FIELDS:
        yield f"its {role} tower is a {type(tower).__name__}"
        return
    known, values = _FIELDS[type(tower)], _VALUES[type(tower)]
    for field in dataclasses.fields(tower):
        value = getattr(tower, field.name)
        if field.name not in known and field.name not in HOW and value != field.default:
            yield f"its {role} tower has {field.name} {value!r:.60}"
        if value not in values.get(field.name, (value,)):
            yield f"its {role} tower has {field.name} {value!r:.60}, where {' and '.join(values[field.name])} are known"
