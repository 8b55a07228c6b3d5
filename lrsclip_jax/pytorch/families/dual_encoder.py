"""Two towers of different families as Hugging Face's `VisionTextDualEncoderModel`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING, IMAGENET_PREPROCESSING
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.pytorch import layout
from lrsclip_jax.pytorch.contract import Hints, ReadCheckpoint
from lrsclip_jax.pytorch.families import bert, dinov2, dinov3, huggingface, strangers
from lrsclip_jax.pytorch.families.preprocessor import preprocessing
from lrsclip_jax.pytorch.families.tower_fields import shared_width
from lrsclip_jax.pytorch.files.tensors import Tensors
from lrsclip_jax.pytorch.layout import Leaf

FAMILY = "Hugging Face VisionTextDualEncoderModel"

_IMAGE, _TEXT = "vision_model.", "text_model."
# A key of each tower that can be read.
_IMAGE_TOWERS = {
    f"{_IMAGE}embeddings.patch_embeddings.weight": "dinov3",
    f"{_IMAGE}embeddings.cls_token": "dinov2",
    f"{_IMAGE}embeddings.class_embedding": "clip",
}
_TEXT_TOWERS = {
    f"{_TEXT}embeddings.word_embeddings.weight": "bert",
    f"{_TEXT}embeddings.token_embedding.weight": "clip",
}
_UNUSED = (f"{_IMAGE}embeddings.mask_token", *huggingface.POSITION_IDS)


def recognises(tensors: Tensors) -> bool:
    """Whether these are two towers and their projections; both of CLIP are a CLIPModel, see `huggingface`."""
    projections = {"visual_projection.weight", "text_projection.weight"} <= tensors.keys()
    return projections and not huggingface.recognises(tensors)


def read(tensors: Tensors, config: dict[str, Any] | None, hints: Hints, folder: Path) -> ReadCheckpoint:
    """Returns what a folder of a `VisionTextDualEncoderModel` holds.

    The image tower is a Dinov2Model, DINOv3ViTModel or CLIPVisionModel, the text tower a BertModel (pooled by its
    pooler) or CLIPTextModel.

    Args:
      tensors: of a file that `recognises` accepts.
      config: config.json.
      hints: what the user says, which must be the same.
      folder: where the file lies.

    Raises:
      InputError: no config.json or one of another model, a tower of another family, and what the readers of the towers
        raise.
    """
    model_type = (config or {}).get("model_type")
    if config is None or model_type != "vision-text-dual-encoder":
        found = "there is none" if config is None else f"its model_type is {model_type!r:.80}"
        raise InputError(f"{tensors.name}: only a dual encoder with its config.json can be converted, {found}")
    strangers.refuse(tensors)
    tensors = bert.with_current_names(huggingface.with_current_names(tensors))
    kinds = _kind(tensors, _IMAGE_TOWERS, "image"), _kind(tensors, _TEXT_TOWERS, "text")
    tensors = dinov2.with_saved_names(tensors) if kinds[0] == "dinov2" else tensors
    configs = [huggingface.tower_config(tensors, config, tower) for tower in ("vision", "text")]
    image, image_reasons = _image_fields(kinds[0], tensors, configs[0], hints)
    text, text_reasons = _text_fields(kinds[1], tensors, configs[1], hints, folder)
    embed_dim = {"embed_dim": shared_width(tensors)}
    image, text = image | embed_dim, text | embed_dim
    leaves = table(*kinds, image.get("registers", 0), image.get("gated", False))
    tensors = dinov3.with_key_biases(tensors, image, _IMAGE) if kinds[0] == "dinov3" else tensors
    shapes = layout.shapes(zoo.create("custom", image=image, text=text)) | dinov2.scale_shapes(image)
    unused = tuple(key for key in _UNUSED if key in tensors)
    layout.check(leaves, shapes, tensors, "a VisionTextDualEncoderModel", unused)
    params = layout.to_ours(leaves, shapes, tensors)
    family = CLIP_PREPROCESSING if kinds[0] == "clip" else IMAGENET_PREPROCESSING
    pixels, reason = preprocessing(folder, image["size"], family)
    return ReadCheckpoint(
        family=FAMILY,
        params=params if kinds[0] == "clip" else dinov2.folded(params),
        image=image,
        text=text,
        preprocessing=pixels,
        antialias=kinds[0] == "clip",
        reasons=image_reasons | text_reasons | {"preprocessing": reason},
        unused=unused,
    )


def table(image: str, text: str, registers: int = 0, gated: bool = False) -> list[Leaf]:
    """Returns where every parameter of a model stands in a `VisionTextDualEncoderModel`.

    Args:
      image: "dinov2" or "dinov3" (parameters as before `dinov2.folded`, after `dinov2.with_unit_scales`), or "clip".
      text: "bert" (with its pooler) or "clip".
      registers, gated: of DINOv3's tower.
    """
    images = {
        "dinov2": [*dinov2.table(_IMAGE), *dinov2.layer_scales(_IMAGE)],
        "dinov3": dinov3.table(registers, gated, _IMAGE),
        "clip": huggingface.image_table(),
    }
    texts = {"bert": bert.table("pooler", _TEXT), "clip": huggingface.text_table()}
    return [*images[image], *texts[text], *huggingface.shared_table()]


def _kind(tensors: Tensors, towers: dict[str, str], tower: str) -> str:
    for key, kind in towers.items():
        if key in tensors:
            return kind
    raise InputError(
        f"{tensors.name}: its {tower} tower is none that can be converted, which have {' or '.join(towers)}"
    )


def _image_fields(kind: str, tensors: Tensors, config: dict[str, Any], hints: Hints) -> tuple[dict, dict]:
    if kind == "dinov2":
        return dinov2.image_fields(dinov2.table(_IMAGE), tensors, config, hints)
    if kind == "dinov3":
        return dinov3.image_fields(dinov3.table_of(tensors, _IMAGE), tensors, config, hints)
    return huggingface.image_fields(tensors, config, hints)


def _text_fields(kind: str, tensors: Tensors, config: dict[str, Any], hints: Hints, folder: Path) -> tuple[dict, dict]:
    if kind == "bert":
        bert.check_vocabulary(folder)
        fields, reasons = bert.text_fields(tensors, config, hints, _TEXT)
        return fields | {"pool": "pooler"}, reasons | {"text.pool": "that of every VisionTextDualEncoderModel"}
    return huggingface.text_fields(tensors, config, hints)
