"""The plain Vision Transformer under the key names of Hugging Face: `ViTModel`, and the encoder of `ViTMAEModel`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lrsclip_jax.data.preprocessing import IMAGENET_PREPROCESSING, Preprocessing
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.pytorch import layout
from lrsclip_jax.pytorch.contract import Hints, ReadCheckpoint
from lrsclip_jax.pytorch.families import tower_fields
from lrsclip_jax.pytorch.families.preprocessor import normalisation
from lrsclip_jax.pytorch.families.tower_fields import image_sizes
from lrsclip_jax.pytorch.files.tensors import Tensors
from lrsclip_jax.pytorch.layout import CONVOLUTION, IN_BATCH, TOKEN, Leaf

# By the model_type of config.json; ViTMSN is a ViTModel trained otherwise.
FAMILIES = {
    "vit": "Hugging Face ViTModel",
    "vit_mae": "Hugging Face ViTMAEModel",
    "vit_msn": "Hugging Face ViTMSNModel",
}

_HALF = Preprocessing(size=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))  # transformers' ViTImageProcessor
_BLOCK = re.compile(r"encoder\.layer\.\d+\.layernorm_before\.weight|layers\.\d+\.layernorm_before\.weight")
# Tokens of masked patches; a layer behind the class token, which has no module here; a classifier.
_UNUSED = re.compile(r"embeddings\.mask_token|pooler\..*|classifier\..*")

# Relatives with further tokens, positions or scales, by keys that they alone have.
_RELATIVES = {
    "a BEiT": re.compile(r".*(lambda_1|relative_position_bias_table)"),
    "a DeiT with a token of distillation": re.compile(r"embeddings\.distillation_token"),
    "a YOLOS": re.compile(r"embeddings\.detection_tokens"),
    "a ViTHybrid": re.compile(r"embeddings\.patch_embeddings\.backbone\..*"),
}


def recognises(tensors: Tensors) -> bool:
    """Whether the blocks have the names of a ViTModel's layers: as files hold them, or transformers 5 in memory."""
    return any(_BLOCK.fullmatch(key) for key in tensors)


def read(tensors: Tensors, config: dict[str, Any] | None, hints: Hints, folder: Path) -> ReadCheckpoint:
    """Returns the image tower of a ViTModel, or the encoder of a ViTMAEModel, without a projection.

    The class token is taken, after the last norm. The pooler of a ViTModel, a dense layer and tanh, is left out. MAE's
    table of positions, sines and cosines that its training does not change, is read as any other.

    Args:
      tensors: of a file that `recognises` accepts.
      config: transformers' config.json; without one, GELU and eps 1e-12 are transformers', and a hint must say the
        heads.
      hints: what the user says.
      folder: where the file lies.

    Raises:
      InputError: a relative with another architecture (named), missing, unexpected or misshapen tensors, heads that
        nothing tells.
    """
    for name, pattern in _RELATIVES.items():
        if key := next((key for key in tensors if pattern.fullmatch(key)), None):
            raise InputError(f"{tensors.name} is {name} (it has {key}), not a plain ViT: it can't be converted")
    told = tower_fields.checked(tensors, config or {})
    kind = told.get("model_type", "vit")
    if kind not in FAMILIES:
        raise InputError(f"{tensors.name}: config.json has model_type {kind!r:.80}, a plain ViT {', '.join(FAMILIES)}")
    tensors = with_saved_names(tensors)
    sizes = image_sizes(table(), tensors)
    width = sizes["width"]
    source = tower_fields.CONFIG if config else "transformers'"
    said = told.get("num_attention_heads", 12 if config else None)
    known = "ViT-B has 12, L and H 16"
    heads, heads_reason = tower_fields.heads(tensors, "image", width, said, source, hints.image_heads, known)
    activation, _ = tower_fields.activation(tensors, told.get("hidden_act", "gelu"), source, hints.activation)
    fields = {"heads": heads, "activation": activation, "norm_eps": told.get("layer_norm_eps", 1e-12)}
    image = sizes | fields | {"patch_bias": True, "pre_norm": False, "pool": "cls"}
    shapes = layout.shapes(zoo.create("tiny", image=image))
    unused = tuple(sorted(key for key in tensors if _UNUSED.fullmatch(key)))
    layout.check(table(), shapes, tensors, f"a {FAMILIES[kind].split()[-1]}", unused)
    otherwise = _HALF if kind == "vit" else IMAGENET_PREPROCESSING
    preprocessing, reason = normalisation(folder, image["size"], otherwise)
    return ReadCheckpoint(
        family=FAMILIES[kind],
        params=layout.to_ours(table(), shapes, tensors),
        image=image,
        preprocessing=preprocessing,
        antialias=False,  # transformers' interpolate_pos_encoding
        reasons={
            "image.heads": heads_reason,
            "image.activation": source,
            "image.norm_eps": source,
            "preprocessing": reason,
        },
        unused=unused,
    )


def table() -> list[Leaf]:
    """Returns where the parameters of an image tower but its projection stand in a ViTModel's file."""
    blocks, layer = "image/blocks", "encoder.layer.{}"
    return [
        Leaf("image/patch_embedding/kernel", ("embeddings.patch_embeddings.projection.weight",), CONVOLUTION),
        Leaf("image/patch_embedding/bias", ("embeddings.patch_embeddings.projection.bias",)),
        Leaf("image/class_embedding", ("embeddings.cls_token",), TOKEN),
        Leaf("image/position_embedding", ("embeddings.position_embeddings",), IN_BATCH),
        *layout.norm(f"{blocks}/norm1", f"{layer}.layernorm_before"),
        *layout.attention(
            f"{blocks}/attention",
            [f"{layer}.attention.attention.{part}" for part in ("query", "key", "value")],
            f"{layer}.attention.output.dense",
        ),
        *layout.norm(f"{blocks}/norm2", f"{layer}.layernorm_after"),
        *layout.dense(f"{blocks}/mlp/fc1", f"{layer}.intermediate.dense"),
        *layout.dense(f"{blocks}/mlp/fc2", f"{layer}.output.dense"),
        *layout.norm("image/post_norm", "layernorm"),
    ]


def with_saved_names(tensors: Tensors) -> Tensors:
    """Returns the tensors as transformers names them in files: in memory, version 5 calls the layers otherwise."""
    names = {
        "attention.q_proj": "attention.attention.query",
        "attention.k_proj": "attention.attention.key",
        "attention.v_proj": "attention.attention.value",
        "attention.o_proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }

    def saved(key: str) -> str:
        if not (found := re.fullmatch(r"layers\.(\d+)\.(.*)\.(weight|bias)", key)):
            return key
        layer, name, part = found.groups()
        return f"encoder.layer.{layer}.{names.get(name, name)}.{part}"

    return tensors.renamed(saved)
