"""A CLIP model out of a Hugging Face `CLIPModel` folder (config.json and model.safetensors)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from lrsclip_jax.data.images import CLIP_PREPROCESSING, Preprocessing
from lrsclip_jax.errors import InputError


def clip_parameters(folder: str | Path) -> tuple[dict[str, Any], Preprocessing]:
    """Returns the parameters of a `CLIPModel`, laid out as `models.clip.CLIP`'s, and its preprocessing.

    Args:
      folder: holds config.json, model.safetensors, and possibly preprocessor_config.json (else CLIP's values).

    Returns:
      A nested dict of float32 arrays, every leaf of the model, and the preprocessing.

    Raises:
      InputError: a file is missing or torn, or a key is missing (the first is named).
    """
    folder = Path(folder)
    config = _json(folder / "config.json")
    if config.get("model_type") != "clip":
        raise InputError(f"{folder}/config.json: model_type is '{config.get('model_type')}', a CLIPModel has 'clip'")
    path = folder / "model.safetensors"
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} can't be read ({error})") from error
    try:
        params = clip_tree(tensors, _heads(config, "vision"), _heads(config, "text"))
    except KeyError as error:
        raise InputError(f"{path}: not a whole CLIPModel, {error.args[0]} is missing") from None
    return params, _preprocessing(folder)


def clip_tree(tensors: dict[str, np.ndarray], image_heads: int, text_heads: int) -> dict[str, Any]:
    """Returns the state dict of a `CLIPModel` (arrays of any float dtype) in our layout, float32."""
    get = {key: np.asarray(value, np.float32) for key, value in tensors.items()}.__getitem__
    return {
        "image": {
            "patch_embedding": {"kernel": get("vision_model.embeddings.patch_embedding.weight").transpose(2, 3, 1, 0)},
            "class_embedding": get("vision_model.embeddings.class_embedding"),
            "position_embedding": get("vision_model.embeddings.position_embedding.weight"),
            "pre_norm": _norm(get, "vision_model.pre_layrnorm"),  # sic
            "blocks": _blocks(get, tensors, "vision_model", image_heads),
            "post_norm": _norm(get, "vision_model.post_layernorm"),
            "projection": {"kernel": get("visual_projection.weight").T},
        },
        "text": {
            "token_embedding": get("text_model.embeddings.token_embedding.weight"),
            "position_embedding": get("text_model.embeddings.position_embedding.weight"),
            "blocks": _blocks(get, tensors, "text_model", text_heads),
            "final_norm": _norm(get, "text_model.final_layer_norm"),
            "projection": {"kernel": get("text_projection.weight").T},
        },
        "logit_scale": get("logit_scale").reshape(()),
    }


def _blocks(get, tensors, tower: str, heads: int) -> dict[str, Any]:
    prefix = f"{tower}.encoder.layers."
    depth = 1 + max(
        (int(key.removeprefix(prefix).split(".")[0]) for key in tensors if key.startswith(prefix)), default=0
    )

    def stacked(name: str) -> np.ndarray:
        return np.stack([get(f"{prefix}{layer}.{name}") for layer in range(depth)])

    def norm(name: str) -> dict[str, np.ndarray]:
        return {"scale": stacked(f"{name}.weight"), "bias": stacked(f"{name}.bias")}

    def dense(name: str) -> dict[str, np.ndarray]:
        return {"kernel": stacked(f"{name}.weight").swapaxes(1, 2), "bias": stacked(f"{name}.bias")}

    parts = [dense(f"self_attn.{part}_proj") for part in "qkv"]
    out = dense("self_attn.out_proj")
    width = out["bias"].shape[1]
    head = (heads, width // heads)
    return {
        "norm1": norm("layer_norm1"),
        "attention": {
            "qkv": {
                "kernel": np.stack([part["kernel"] for part in parts], 2).reshape(depth, width, 3, *head),
                "bias": np.stack([part["bias"] for part in parts], 1).reshape(depth, 3, *head),
            },
            "out": {"kernel": out["kernel"].reshape(depth, *head, width), "bias": out["bias"]},
        },
        "norm2": norm("layer_norm2"),
        "mlp": {"fc1": dense("mlp.fc1"), "fc2": dense("mlp.fc2")},
    }


def _norm(get, name: str) -> dict[str, np.ndarray]:
    return {"scale": get(f"{name}.weight"), "bias": get(f"{name}.bias")}


def _heads(config: dict[str, Any], tower: str) -> int:
    # Configs leave out what is transformers' default.
    return config.get(f"{tower}_config", {}).get("num_attention_heads", {"vision": 12, "text": 8}[tower])


def _preprocessing(folder: Path) -> Preprocessing:
    path = folder / "preprocessor_config.json"
    if not path.exists():
        return CLIP_PREPROCESSING
    values = _json(path)
    size = values.get("size", 224)
    size = size if isinstance(size, int) else size.get("shortest_edge", 224)
    try:
        return Preprocessing(size=size, mean=tuple(values["image_mean"]), std=tuple(values["image_std"]))
    except KeyError as error:
        raise InputError(f"{path}: {error.args[0]} is missing") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read ({error})") from error
