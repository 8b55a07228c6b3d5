"""SigLIP, and SigLIP 2 of fixed resolution, as Hugging Face's `SiglipModel`; one of its towers may come alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lrsclip_jax.data import tokenizer_file
from lrsclip_jax.data.preprocessing import SIGLIP_PREPROCESSING
from lrsclip_jax.data.tokenizer import Tokenizer
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.pytorch import layout
from lrsclip_jax.pytorch.contract import Hints, ReadCheckpoint
from lrsclip_jax.pytorch.families import huggingface, tower_fields
from lrsclip_jax.pytorch.families.preprocessor import squashed
from lrsclip_jax.pytorch.families.tower_fields import image_sizes, text_sizes
from lrsclip_jax.pytorch.files.tensors import Tensors
from lrsclip_jax.pytorch.layout import CONVOLUTION, IN_BATCH, OUT, QKV, QKV_BIAS, TOKEN, Leaf

FAMILY = "Hugging Face SiglipModel"

_PATCHES = "vision_model.embeddings.patch_embedding.weight"


def recognises(tensors: Tensors) -> bool:
    """Whether these are a SiglipModel's tensors: a head is there, or the patches' bias, which CLIP has not."""
    keys = {"vision_model.head.probe", "vision_model.embeddings.patch_embedding.bias", "text_model.head.weight"}
    return not keys.isdisjoint(tensors)


def read(tensors: Tensors, config: dict[str, Any] | None, hints: Hints, folder: Path) -> ReadCheckpoint:
    """Returns what a folder of a `SiglipModel` holds, the bias of its logits included, or one of its towers.

    Heads, activations and eps are taken from config.json, where a key that is absent has transformers' default. The
    tokenizer is that of the folder's tokenizer.json; without one, texts can't be embedded.

    Args:
      tensors: of a file that `recognises` accepts.
      config: config.json.
      hints: what the user says, which must be the same.
      folder: where the file lies.

    Raises:
      InputError: no config.json or one of another model, NaFlex among them; missing, unexpected or misshapen tensors; a
        setting that our towers have not; the tokenizer of another model; a hint that says otherwise.
    """
    if config is None:
        raise InputError(f"{tensors.name}: a SiglipModel comes with a config.json, which alone says heads and eps")
    model_type = config.get("model_type")
    if model_type == "siglip2" or (_PATCHES in tensors and len(tensors.shape(_PATCHES)) == 2):
        raise naflex(tensors)
    if model_type not in ("siglip", "siglip_vision_model", "siglip_text_model"):
        raise InputError(f"{tensors.name}: config.json has model_type {model_type!r:.80}, a SiglipModel 'siglip'")
    image: dict[str, Any] = {}
    text: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    leaves, tokenizer, pixels = [], None, None
    if any(key.startswith("vision_model.") for key in tensors):
        leaves += image_table()
        image, reasons = _image_fields(tensors, _settings(tensors, config, "vision"), hints)
        side = _settings(tensors, config, "vision").get("image_size", 224)
        pixels, reasons["preprocessing"] = squashed(folder, side, SIGLIP_PREPROCESSING)
        pixels = replace(pixels, size=image["size"], margin=side - image["size"])
    if any(key.startswith("text_model.") for key in tensors):
        leaves += text_table()
        tokenizer = tokenizer_file.in_folder(folder)
        text, of_text = _text_fields(tensors, _settings(tensors, config, "text"), hints, tokenizer)
        if tokenizer:
            tokenizer_file.check_fits(tokenizer, text, f"{folder / tokenizer_file.FILE}")
        reasons |= of_text
    if image and text:
        leaves += shared_table()
        if image["embed_dim"] != text["embed_dim"]:
            raise InputError(
                f"{tensors.name}: images become {image['embed_dim']} numbers and texts {text['embed_dim']}: the towers "
                "do not meet"
            )
    embed_dim = {"embed_dim": (image or text)["embed_dim"]}
    shapes = layout.shapes(zoo.create("siglip_vitb16", image or embed_dim, text or embed_dim, logit_bias=0.0))
    unused = tuple(key for key in huggingface.POSITION_IDS if key in tensors)
    layout.check(leaves, shapes, tensors, "a SiglipModel", unused)
    return ReadCheckpoint(
        family=FAMILY,
        params=layout.to_ours(leaves, shapes, tensors),
        image=image or None,
        text=text or None,
        preprocessing=pixels,
        tokenizer=tokenizer,
        antialias=False,  # as transformers resizes the table
        reasons=reasons,
        unused=unused,
    )


def table() -> list[Leaf]:
    """Returns where every parameter of a model with SigLIP's towers stands in a SiglipModel."""
    return [*image_table(), *text_table(), *shared_table()]


def image_table() -> list[Leaf]:
    """The image tower."""
    embeddings, head = "vision_model.embeddings", "vision_model.head"
    return [
        Leaf("image/patch_embedding/kernel", (_PATCHES,), CONVOLUTION),
        Leaf("image/patch_embedding/bias", (f"{embeddings}.patch_embedding.bias",)),
        Leaf("image/position_embedding", (f"{embeddings}.position_embedding.weight",)),
        *huggingface.blocks("image", "vision_model"),
        *layout.norm("image/post_norm", "vision_model.post_layernorm"),
        Leaf("image/head/probe", (f"{head}.probe",), TOKEN),
        Leaf("image/head/qkv/kernel", (f"{head}.attention.in_proj_weight",), QKV),
        Leaf("image/head/qkv/bias", (f"{head}.attention.in_proj_bias",), QKV_BIAS),
        Leaf("image/head/out/kernel", (f"{head}.attention.out_proj.weight",), OUT),
        Leaf("image/head/out/bias", (f"{head}.attention.out_proj.bias",)),
        *layout.norm("image/head/norm", f"{head}.layernorm"),
        *layout.dense("image/head/mlp/fc1", f"{head}.mlp.fc1"),
        *layout.dense("image/head/mlp/fc2", f"{head}.mlp.fc2"),
    ]


def text_table() -> list[Leaf]:
    """The text tower, with its projection."""
    return [*huggingface.text_table(), *layout.dense("text/projection", "text_model.head")]


def shared_table() -> list[Leaf]:
    """The temperature and the bias of the sigmoid loss."""
    return [Leaf(name, (name,), IN_BATCH) for name in ("logit_scale", "logit_bias")]


def naflex(tensors: Tensors) -> InputError:
    """Returns the error for a model whose images keep their shape."""
    return InputError(
        f"{tensors.name} is a SigLIP 2 NaFlex, whose images have any shape and come as lists of patches: take one "
        "of fixed resolution, such as google/siglip2-base-patch16-224"
    )


def check_side(tensors: Tensors, said: Any, source: str, sizes: Mapping[str, int]) -> None:
    """Raises InputError unless images of the side that a source says have the patches that `sizes` have positions for.

    They may be larger: a convolution leaves out what is no whole patch.
    """
    if type(said) is not int or said // sizes["patch"] != sizes["size"] // sizes["patch"]:
        raise InputError(
            f"{tensors.name}: {source} has image_size {said!r:.80}, its positions are of {sizes['size']} pixels in "
            f"patches of {sizes['patch']}"
        )


def _settings(tensors: Tensors, config: dict[str, Any], tower: str) -> dict[str, Any]:
    """The settings of a tower, in a config of both or of its own."""
    if config["model_type"] == "siglip":
        return huggingface.tower_config(tensors, config, tower)
    return tower_fields.checked(tensors, config)


def _image_fields(tensors: Tensors, config: dict[str, Any], hints: Hints) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields of `models.vit.ViT`, and where they come from."""
    sizes = image_sizes(image_table(), tensors)
    check_side(tensors, config.get("image_size", 224), tower_fields.CONFIG, sizes)
    told, reasons = _told(tensors, "image", sizes["width"], config, hints)
    fixed = {"embed_dim": sizes["width"], "patch_bias": True, "pre_norm": False, "pool": "map"}
    return sizes | told | fixed, reasons


def _text_fields(
    tensors: Tensors, config: dict[str, Any], hints: Hints, tokenizer: Tokenizer | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields of `models.siglip_text.SiglipText` and "kind", and where they come from."""
    sizes = text_sizes(text_table(), tensors)
    told, reasons = _told(tensors, "text", sizes["width"], config, hints)
    (embed_dim,) = tensors.shape("text_model.head.bias") if "text_model.head.bias" in tensors else (sizes["width"],)
    # The configs of SigLIP 2 do not say its padding: transformers' default is SigLIP's.
    pad, why = config.get("pad_token_id", 1), tower_fields.CONFIG
    if tokenizer:
        pad, why = tokenizer.pad, tokenizer_file.FILE
    fields = {"kind": "siglip"} | sizes | told | {"embed_dim": embed_dim, "pad_token": pad}
    return fields, reasons | {"text.pad_token": why}


def _told(
    tensors: Tensors, tower: str, width: int, config: dict[str, Any], hints: Hints
) -> tuple[dict[str, Any], dict[str, str]]:
    hint = {"image": hints.image_heads, "text": hints.text_heads}[tower]
    said = config.get("num_attention_heads", 12)
    heads, _ = tower_fields.heads(tensors, tower, width, said, tower_fields.CONFIG, hint)
    said = config.get("hidden_act", "gelu_pytorch_tanh")
    activation, _ = tower_fields.activation(tensors, said, tower_fields.CONFIG, hints.activation)
    fields = {"heads": heads, "activation": activation, "norm_eps": config.get("layer_norm_eps", 1e-6)}
    return fields, {f"{tower}.{field}": tower_fields.CONFIG for field in fields}
