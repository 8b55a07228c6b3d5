"""SigLIP, and SigLIP 2 of fixed resolution, as open_clip keeps them: timm's image tower and a text tower of its own.

Names and functions are those of open_clip 3.3.0 (timm_model.py, transformer.py: TextTransformer) and of timm 1.0.31
(models/vision_transformer.py, layers/attention_pool.py: AttentionPoolLatent).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

from eval.reading import convert
from lrsclip_jax.data import tokenizer_file
from lrsclip_jax.data.preprocessing import SIGLIP_PREPROCESSING
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.pytorch import layout
from lrsclip_jax.pytorch.contract import Hints, ReadCheckpoint
from lrsclip_jax.pytorch.families import mae, open_clip_config, openai, siglip, tower_fields
from lrsclip_jax.pytorch.families.tower_fields import image_sizes, text_sizes
from lrsclip_jax.pytorch.files.tensors import Tensors
from lrsclip_jax.pytorch.layout import TOKEN, Leaf

FAMILY = "open_clip SigLIP"

_TRUNK = "visual.trunk."
_PROBE = f"{_TRUNK}attn_pool.latent"
_BIAS = "text.text_projection.bias"

# timm's SigLIPs by the activation that it gives them: of most it is exact GELU, where Google trained with its
# approximation by tanh, which transformers computes.
_ACTIVATIONS = {
    "gelu": (
        *(f"vit_base_patch16_siglip_{size}" for size in (224, 256, 384, 512)),
        *(f"vit_large_patch16_siglip_{size}" for size in (256, 384)),
        *(f"vit_so400m_patch14_siglip_{size}" for size in (224, 378, 384)),
    ),
    "gelu_pytorch_tanh": (
        "vit_base_patch32_siglip_256",
        "vit_large_patch16_siglip_512",
        *(f"vit_so400m_patch16_siglip_{size}" for size in (256, 384, 512)),
        *(f"vit_giantopt_patch16_siglip_{size}" for size in (256, 384)),
    ),
}
_HEADS = {768: 12, 1024: 16, 1152: 16, 1536: 16}  # by the width of timm's SigLIPs

_KNOWN = open_clip_config.LAST_KNOWN | {
    "vision_cfg": {
        *("image_size", "patch_dropout", "output_tokens"),
        *("timm_model_name", "timm_model_pretrained", "timm_pool", "timm_proj", "timm_drop", "timm_drop_path"),
    },
    "text_cfg": open_clip_config.LAST_KNOWN["text_cfg"] | {"proj_bias"},
}
_ONLY = open_clip_config.LAST_ONLY | {("vision_cfg", "timm_pool"): "map", ("vision_cfg", "timm_proj"): "none"}


class _Vision(TypedDict):
    image_size: open_clip_config.Size | list[open_clip_config.Size]
    timm_model_name: str


class _Model(TypedDict):
    embed_dim: open_clip_config.Size
    vision_cfg: _Vision
    text_cfg: open_clip_config.LastText


def recognises(tensors: Tensors) -> bool:
    """Whether the image tower is timm's, and pools by attention."""
    return _PROBE in tensors


def read(tensors: Tensors, config: dict[str, Any] | None, hints: Hints, folder: Path) -> ReadCheckpoint:
    """Returns both towers, temperature and bias, computed as open_clip does.

    Its text towers and timm's image towers have exact GELU or its approximation by tanh: open_clip_config.json and
    timm's name there say which.

    Args:
      tensors: of a file that `recognises` accepts.
      config: open_clip_config.json.
      hints: what the user says, which must be the same; the heads of an image tower of a width that timm has not.
      folder: where the file lies, and perhaps a tokenizer.json, without which texts can't be embedded.

    Raises:
      InputError: no config or one of another model, NaFlex among them; missing, unexpected or misshapen tensors; the
        tokenizer of another model; a hint that says otherwise.
    """
    if any(key.startswith(f"{_TRUNK}embeds.") for key in tensors):
        raise siglip.naflex(tensors)
    if config is None:
        raise InputError(
            f"{tensors.name}: open_clip's file of a SigLIP comes with an {openai.CONFIG}, which alone says its heads, "
            "activations and eps: take that of the folder it was tuned from"
        )
    where = str(folder / openai.CONFIG)
    model, preprocess = open_clip_config.parts(config, where, _KNOWN, _ONLY)
    convert(model, f"{where}: model_cfg", _Model)
    convert(preprocess, f"{where}: preprocess_cfg", open_clip_config.LastPixels)
    image, reasons = _image_fields(tensors, model, where, hints)
    tokenizer = tokenizer_file.in_folder(folder)
    said = {"embed_dim": model["embed_dim"]} | open_clip_config.last_text_fields(model["text_cfg"], where)
    text, of_text = _text_fields(tensors, said, hints)
    if tokenizer:
        text["pad_token"], of_text["text.pad_token"] = tokenizer.pad, tokenizer_file.FILE
        tokenizer_file.check_fits(tokenizer, text, f"{folder / tokenizer_file.FILE}")
    shapes = layout.shapes(zoo.create("siglip_vitb16", image, text, logit_bias=0.0))
    layout.check(table(), shapes, tensors, "open_clip's file of a SigLIP")
    side = open_clip_config.side(model["vision_cfg"]["image_size"], where)
    pixels = open_clip_config.preprocessing(preprocess, where, side, SIGLIP_PREPROCESSING)
    return ReadCheckpoint(
        family=FAMILY,
        params=layout.to_ours(table(), shapes, tensors),
        image=image,
        text=text,
        preprocessing=replace(pixels, size=image["size"], margin=side - image["size"]),
        tokenizer=tokenizer,
        antialias=True,  # as timm resizes the table
        reasons=reasons | of_text | {"preprocessing": openai.CONFIG if preprocess else "the family's"},
    )


def table() -> list[Leaf]:
    """Returns where every parameter of a model with SigLIP's towers stands in open_clip's file."""
    return [*image_table(), *text_table(), *(Leaf(name, (name,)) for name in ("logit_scale", "logit_bias"))]


def image_table() -> list[Leaf]:
    """The image tower: timm's ViT without a class token, and its `AttentionPoolLatent`."""
    trunk = [leaf for leaf in mae.table() if leaf.path != "image/class_embedding"]
    head, theirs = "image/head", f"{_TRUNK}attn_pool"
    return [
        *(leaf._replace(keys=tuple(f"{_TRUNK}{key}" for key in leaf.keys)) for leaf in trunk),
        Leaf(f"{head}/probe", (_PROBE,), TOKEN),
        *layout.attention(head, [f"{theirs}.q", f"{theirs}.kv"], f"{theirs}.proj", shares=(1, 2)),
        *layout.norm(f"{head}/norm", f"{theirs}.norm"),
        *layout.dense(f"{head}/mlp/fc1", f"{theirs}.mlp.fc1"),
        *layout.dense(f"{head}/mlp/fc2", f"{theirs}.mlp.fc2"),
    ]


def text_table() -> list[Leaf]:
    """The text tower, with its projection."""
    return [
        Leaf("text/token_embedding", ("text.token_embedding.weight",)),
        Leaf("text/position_embedding", ("text.positional_embedding",)),
        *openai.blocks("text/blocks", "text.transformer.resblocks.{}"),
        *layout.norm("text/final_norm", "text.ln_final"),
        *layout.dense("text/projection", "text.text_projection"),
    ]


def _image_fields(
    tensors: Tensors, model: Mapping[str, Any], where: str, hints: Hints
) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields of `models.vit.ViT`, and where they come from."""
    sizes, vision = image_sizes(image_table(), tensors), model["vision_cfg"]
    width, name = sizes["width"], vision["timm_model_name"]
    siglip.check_side(tensors, open_clip_config.side(vision["image_size"], where), openai.CONFIG, sizes)
    openai.compare(tensors.name, "image", {"embed_dim": width}, {"embed_dim": model["embed_dim"]})
    said = next((activation for activation, names in _ACTIVATIONS.items() if name in names), None)
    if said is None:
        raise InputError(f"{where}: timm_model_name {name!r:.80} is no SigLIP of timm's that is known here")
    source = f"timm's {name}"
    activation, _ = tower_fields.activation(tensors, said, source, hints.activation)
    heads, reason = tower_fields.heads(tensors, "image", width, _HEADS.get(width), source, hints.image_heads)
    fields = {"heads": heads, "activation": activation, "norm_eps": 1e-6, "embed_dim": width}
    fixed = {"patch_bias": True, "pre_norm": False, "pool": "map"}
    return sizes | fields | fixed, {"image.heads": reason, "image.activation": source, "image.norm_eps": source}


def _text_fields(tensors: Tensors, said: Mapping[str, Any], hints: Hints) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields of `models.siglip_text.SiglipText` and "kind", and where they come from."""
    (embed_dim,) = tensors.shape(_BIAS) if _BIAS in tensors else (said["embed_dim"],)
    sizes = text_sizes(text_table(), tensors) | {"embed_dim": embed_dim}
    openai.compare(tensors.name, "text", sizes, said)
    activation, _ = tower_fields.activation(tensors, said["activation"], openai.CONFIG, hints.activation)
    heads, _ = tower_fields.heads(tensors, "text", sizes["width"], said["heads"], openai.CONFIG, hints.text_heads)
    told = {"heads": heads, "activation": activation, "norm_eps": said["norm_eps"]}
    # Without a tokenizer nothing says the padding: it is SigLIP's.
    return {"kind": "siglip"} | sizes | told | {"pad_token": 1}, {f"text.{field}": openai.CONFIG for field in told}
