"""open_clip_config.json, open_clip's own account of a model, in the terms of our towers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec

from eval.reading import convert
from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING, Preprocessing
from lrsclip_jax.errors import InputError
from lrsclip_jax.pytorch.families import tower_fields

# Keys that our towers have a field for, or that do not change what a trained model computes. Any other is refused
# unless it is off (absent, null, false, 0, empty).
_KNOWN = {
    "model_cfg": {
        "embed_dim",
        "vision_cfg",
        "text_cfg",
        "quick_gelu",
        "custom_text",
        "init_logit_scale",
        "init_logit_bias",
    },
    "vision_cfg": {
        "image_size",
        "patch_size",
        "width",
        "layers",
        "head_width",
        "mlp_ratio",
        "no_ln_pre",
        "pool_type",
        "final_ln_after_pool",
        "norm_kwargs",
        "pos_embed_type",
        "patch_dropout",
        "output_tokens",
        "attn_pooler_queries",
        "attn_pooler_heads",
    },
    "text_cfg": {
        "context_length",
        "vocab_size",
        "width",
        "layers",
        "heads",
        "mlp_ratio",
        "pool_type",
        "final_ln_after_pool",
        "norm_kwargs",
        "proj_type",
        "pad_id",
        "eos_id",
        "hf_tokenizer_name",
        "hf_model_pretrained",
        "hf_proj_type",
        "hf_pooler_type",
        "output_tokens",
    },
    "preprocess_cfg": {"size", "mean", "std", "interpolation", "resize_mode", "mode", "fill_color"},
}

# Of these keys, one value.
_ONLY = {
    ("text_cfg", "pool_type"): "argmax",
    ("text_cfg", "proj_type"): "linear",
    ("preprocess_cfg", "interpolation"): "bicubic",
    ("preprocess_cfg", "resize_mode"): "shortest",
    ("preprocess_cfg", "mode"): "RGB",
}

# The same of models with SigLIP's text tower, in which no mask hides a token and the last one is pooled, and whose
# images may be squashed.
LAST_KNOWN = _KNOWN | {
    "model_cfg": _KNOWN["model_cfg"] - {"quick_gelu"},
    "text_cfg": _KNOWN["text_cfg"] | {"no_causal_mask", "act_kwargs", "tokenizer_kwargs"},
}
LAST_ONLY = {
    ("text_cfg", "pool_type"): "last",
    ("text_cfg", "proj_type"): "linear",
    ("preprocess_cfg", "mode"): "RGB",
}


def towers(config: Mapping[str, Any], where: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Returns what a config says, open_clip's defaults included.

    Args:
      config: the parsed file, {"model_cfg": …, "preprocess_cfg": …}, or the former alone.
      where: the file's name, for messages.

    Returns:
      Fields of `models.vit.ViT` or `models.resnet.ResNet`, of `models.text.TextTransformer`, and size, mean and std of
      the images.

    Raises:
      InputError: not a config of open_clip, or of a model that our towers do not compute.
    """
    model, preprocess = parts(config, where, _KNOWN, _ONLY)
    vision = model["vision_cfg"]
    is_resnet = isinstance(vision.get("layers"), list)
    convert(model, f"{where}: model_cfg", _ResNetModel if is_resnet else _Model)
    convert(preprocess, f"{where}: preprocess_cfg", _Pixels)
    activation = {"activation": "quick_gelu" if model.get("quick_gelu") else "gelu"}
    image = _resnet(vision, where) if is_resnet else activation | image_fields(vision, where)
    both = {"embed_dim": model["embed_dim"]}
    return both | image, both | activation | _text(model["text_cfg"]), _preprocessing(preprocess, where)


Size = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]


class _Norm(TypedDict, total=False):
    eps: tower_fields.Epsilon


class _Tower(TypedDict):
    width: Size
    layers: Size
    mlp_ratio: NotRequired[Annotated[float, msgspec.Meta(gt=0, le=1000)]]
    norm_kwargs: NotRequired[_Norm | None]


class Vision(_Tower):
    """A vision_cfg of open_clip's own ViT."""

    image_size: Size | list[Size]
    patch_size: Size
    head_width: NotRequired[Size]
    pool_type: NotRequired[str]
    no_ln_pre: NotRequired[bool | None]
    final_ln_after_pool: NotRequired[bool | None]


class _Text(_Tower):
    context_length: NotRequired[Size]
    vocab_size: NotRequired[Size]
    heads: NotRequired[Size]


class _ResNet(TypedDict):
    """A vision_cfg of open_clip's ModifiedResNet, whose layers are those of four stages."""

    image_size: Size | list[Size]
    layers: Annotated[list[Size], msgspec.Meta(min_length=4, max_length=4)]
    width: Size
    head_width: NotRequired[Size]


class _Towers(TypedDict):
    embed_dim: Size
    text_cfg: _Text
    quick_gelu: NotRequired[bool | None]


class _Model(_Towers):
    vision_cfg: Vision


class _ResNetModel(_Towers):
    vision_cfg: _ResNet


class _Pixels(TypedDict, total=False):
    size: Size | list[Size]
    mean: tuple[tower_fields.Mean, tower_fields.Mean, tower_fields.Mean]
    std: tuple[tower_fields.Deviation, tower_fields.Deviation, tower_fields.Deviation]


class _Activation(TypedDict, total=False):
    approximate: Literal["none", "tanh"]


class LastText(_Text):
    """A text_cfg of a text tower whose last token is pooled."""

    act_kwargs: NotRequired[_Activation | None]


class LastPixels(_Pixels, total=False):
    """A preprocess_cfg of images that may be squashed."""

    resize_mode: Literal["shortest", "squash"]
    interpolation: Literal["bicubic", "bilinear"]


_Known = Mapping[str, set[str]]
_Only = Mapping[tuple[str, str], str]


def parts(config: Mapping[str, Any], where: str, known: _Known, only: _Only) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the model's part and the preprocessing's; InputError for settings that `known` or `only` do not allow."""
    model = config.get("model_cfg", config)
    preprocess = config.get("preprocess_cfg") or {}
    _check("model_cfg", model, where, known, only)
    for part in ("vision_cfg", "text_cfg"):
        _check(part, model.get(part), where, known, only)
    _check("preprocess_cfg", preprocess, where, known, only)
    return model, preprocess


def _check(part: str, values: Any, where: str, known: _Known, only: _Only) -> None:
    if not isinstance(values, dict):
        raise InputError(f"{where} is not a config of open_clip: {part} is {values!r:.80}, it holds settings by name")
    for key, value in values.items():
        one = only.get((part, key), value)
        if value and (key not in known[part] or value != one):
            can = f", only {one!r} can" if value != one else ""
            raise InputError(f"{where}: {part} has {key!s:.80}={value!r:.80}: such a model can't be converted{can}")


def image_fields(vision: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns fields of `models.vit.ViT` of a checked vision_cfg."""
    pool = vision.get("pool_type", "tok")
    # Of the mean, the norm of the mean is ours; the mean of the norms is another function.
    if pool not in ("tok", "avg") or (pool == "avg" and not vision.get("final_ln_after_pool")):
        raise InputError(
            f"{where}: vision_cfg pools by {pool!r:.80}, not by the class token or, before ln_post, by the mean"
        )
    return _tower(vision) | {
        "size": side(vision["image_size"], where),
        "patch": vision["patch_size"],
        "heads": vision["width"] // vision.get("head_width", 64),
        "pool": {"tok": "cls", "avg": "mean"}[pool],
        "pre_norm": not vision.get("no_ln_pre"),
    }


def _resnet(vision: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns fields of `models.resnet.ResNet` of a checked vision_cfg."""
    return {
        "kind": "resnet",
        "size": side(vision["image_size"], where),
        "width": vision["width"],
        "stages": tuple(vision["layers"]),
        "heads": 32 * vision["width"] // vision.get("head_width", 64),
    }


def _text(text: Mapping[str, Any]) -> dict[str, Any]:
    return _tower(text) | {
        "context_length": text.get("context_length", 77),
        "vocab_size": text.get("vocab_size", 49408),
        "heads": text.get("heads", 8),
    }


def last_text_fields(text: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns fields of `models.siglip_text.SiglipText` of a checked text_cfg, the activation in transformers' words.

    Raises InputError where the tower is CLIP's.
    """
    for key in ("no_causal_mask", "pool_type"):
        if not text.get(key):
            raise InputError(f"{where}: text_cfg lacks {key}, which a text tower as SigLIP's has")
    tanh = (text.get("act_kwargs") or {}).get("approximate") == "tanh"
    return _text(text) | {"activation": "gelu_pytorch_tanh" if tanh else "gelu"}


def preprocessing(values: Mapping[str, Any], where: str, size: int, otherwise: Preprocessing) -> Preprocessing:
    """Returns how images of `size` pixels a side are made, by a checked preprocess_cfg with open_clip's defaults.

    Without one it is `otherwise`. Raises InputError for images of another size.
    """
    if not values:
        return replace(otherwise, size=size)
    said = _preprocessing(values, where)
    if said.setdefault("size", size) != size:
        raise InputError(f"{where}: image_size is {size}, preprocess_cfg resizes images to {said['size']}")
    resize: Any = {"shortest": "shorter", "squash": "squash"}[values.get("resize_mode", "shortest")]
    try:
        return replace(CLIP_PREPROCESSING, **said, resize=resize, interpolation=values.get("interpolation", "bicubic"))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _tower(values: Mapping[str, Any]) -> dict[str, Any]:
    width = values["width"]
    return {
        "width": width,
        "layers": values["layers"],
        "mlp_width": int(width * values.get("mlp_ratio", 4)),
        "norm_eps": (values.get("norm_kwargs") or {}).get("eps", 1e-5),
    }


def _preprocessing(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    fields: dict[str, Any] = {name: tuple(map(float, values[name])) for name in ("mean", "std") if name in values}
    if "size" in values:
        fields["size"] = side(values["size"], where)
    return fields


def side(size: int | list[int], where: str) -> int:
    """Returns one side of a square, given as one or two numbers."""
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise InputError(f"{where}: images of {size!r:.80} pixels, squares are expected")
    return sides.pop()
