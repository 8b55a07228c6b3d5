"""open_clip_config.json, open_clip's own account of a model, in the terms of our towers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrsclip_jax.errors import InputError

# Keys that our towers have a field for, or that do not change what a trained model computes. Any other is refused
# unless it is off (absent, null, false, 0, empty).
_KNOWN = {
    "model_cfg": {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text"},
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


def towers(config: Mapping[str, Any], where: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Returns what a config says, open_clip's defaults included.

    Args:
      config: the parsed file, {"model_cfg": …, "preprocess_cfg": …}, or the former alone.
      where: the file's name, for messages.

    Returns:
      Fields of `models.vit.ViT`, of `models.text.TextTransformer`, and size, mean and std of the images.

    Raises:
      InputError: not a config of open_clip, or of a model that our towers do not compute.
    """
    try:
        model = config.get("model_cfg", config)
        vision, text = model["vision_cfg"], model["text_cfg"]
        preprocess = config.get("preprocess_cfg") or {}
        parts = {"model_cfg": model, "vision_cfg": vision, "text_cfg": text, "preprocess_cfg": preprocess}
        for part, values in parts.items():
            _check(part, values, where)
        activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
        both = {"embed_dim": model["embed_dim"], "activation": activation}
        return both | _image(vision, where), both | _text(text), _preprocessing(preprocess)
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InputError(f"{where} is not a config of open_clip ({type(error).__name__}: {error})") from None


def _check(part: str, values: Mapping[str, Any], where: str) -> None:
    for key, value in values.items():
        known = _ONLY.get((part, key), value)
        if value and (key not in _KNOWN[part] or value != known):
            only = f", only {known!r} can" if value != known else ""
            raise InputError(f"{where}: {part} has {key}={value!r}: such a model can't be converted{only}")


def _image(vision: Mapping[str, Any], where: str) -> dict[str, Any]:
    pool = vision.get("pool_type", "tok")
    # Of the mean, the norm of the mean is ours; the mean of the norms is another function.
    if pool not in ("tok", "avg") or (pool == "avg" and not vision.get("final_ln_after_pool")):
        raise InputError(
            f"{where}: vision_cfg pools by {pool!r}, not by the class token or, before ln_post, by the mean"
        )
    return _tower(vision) | {
        "size": _side(vision["image_size"]),
        "patch": vision["patch_size"],
        "heads": vision["width"] // vision.get("head_width", 64),
        "pool": {"tok": "cls", "avg": "mean"}[pool],
        "pre_norm": not vision.get("no_ln_pre"),
    }


def _text(text: Mapping[str, Any]) -> dict[str, Any]:
    return _tower(text) | {
        "context_length": text.get("context_length", 77),
        "vocab_size": text.get("vocab_size", 49408),
        "heads": text.get("heads", 8),
    }


def _tower(values: Mapping[str, Any]) -> dict[str, Any]:
    width = values["width"]
    return {
        "width": width,
        "layers": values["layers"],
        "mlp_width": int(width * values.get("mlp_ratio", 4)),
        "norm_eps": (values.get("norm_kwargs") or {}).get("eps", 1e-5),
    }


def _preprocessing(values: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {name: tuple(map(float, values[name])) for name in ("mean", "std") if name in values}
    if "size" in values:
        fields["size"] = _side(values["size"])
    return fields


def _side(size: int | list[int]) -> int:
    """One side of a square, given as one or two numbers."""
    (side,) = {size} if isinstance(size, int) else set(size)
    return side
