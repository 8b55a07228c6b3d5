"""A folder that transformers loads with no further code: config, weights, tokenizer, image processor, model card.

CLIP's two towers are a `CLIPModel`, SigLIP's a `SiglipModel`; with another tower the model is a
`VisionTextDualEncoderModel` of two models, which takes their `pooler_output`: `Dinov2Model`, `DINOv3ViTModel` or
`CLIPVisionModel`, and `BertModel` or `CLIPTextModel`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eval.whole import write_text
from lrsclip_jax.convert.formats.model_card import ModelFacts, model_card
from lrsclip_jax.convert.formats.output_files import counts, new_output, write_json, write_safetensors
from lrsclip_jax.convert.formats.tokenizer_files import write_tokenizer
from lrsclip_jax.data.preprocessing import Preprocessing, filter_of
from lrsclip_jax.data.tokenizer import Tokenizer, tokenizer_for
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.models.bert_tower import Bert
from lrsclip_jax.models.clip import CLIP
from lrsclip_jax.models.resnet import ResNet
from lrsclip_jax.models.siglip_text import SiglipText
from lrsclip_jax.models.text import TextTransformer
from lrsclip_jax.models.vit import ViT
from lrsclip_jax.pytorch.families import dinov2, dual_encoder, huggingface, siglip
from lrsclip_jax.pytorch.layout import to_theirs


class ExportedTower(NamedTuple):
    """One tower as a model of transformers: its kind in `dual_encoder.table`, its class, its config."""

    kind: str
    name: str
    config: dict[str, Any]


def write(
    model: CLIP,
    params: Mapping[str, Any],
    preprocessing: Preprocessing,
    out: Path,
    source: str,
    facts: ModelFacts | None = None,
    tokenizer: Tokenizer | None = None,
) -> list[str]:
    """Writes the folder `out`, and returns what to tell of it; see `export.export`."""
    kind = zoo.text_kind(model)
    tokenizer = tokenizer or tokenizer_for(kind)
    if kind == "siglip":
        name = described = "SiglipModel"
        config, tensors = _siglip(model, params, preprocessing.at(model.image.size).margin)
    else:
        image, text = _image(model.image), _text(model.text, kind)
        is_clip = image.kind == text.kind == "clip"
        name = "CLIPModel" if is_clip else "VisionTextDualEncoderModel"
        described = name if is_clip else f"{name} of {image.name} and {text.name}"
        config = {
            "model_type": "clip" if is_clip else "vision-text-dual-encoder",
            "projection_dim": model.image.embed_dim,
            "logit_scale_init_value": float(params["logit_scale"]),
            "vision_config": image.config,
            "text_config": text.config,
        }
        tensors = _tensors(params, image.kind, text.kind, model.image)
    config = {"architectures": [name], **config, "dtype": "float32"}
    with new_output(out) as partial:
        partial.mkdir()
        write_json(partial / "config.json", config)
        write_json(partial / "preprocessor_config.json", _processor(preprocessing, name))
        write_tokenizer(tokenizer, model.text.context_length, partial)
        card = model_card(model, preprocessing, name=out.name, architecture=described, source=source, facts=facts)
        write_text(partial / "README.md", card)
        write_safetensors(partial / "model.safetensors", tensors)
        files = ", ".join(sorted(path.name for path in partial.iterdir()))
    lines = [f"{out}: {described}, {model.text.context_length} positions, {counts(tensors)}", f"files: {files}"]
    if preprocessing.resize == "shorter" and preprocessing.crop == "center":
        lines.append(
            "transformers rounds half the margin of a crop down, CLIP to even: images that resize to 3, 7, 11 … pixels "
            "beyond the square are cropped one pixel off"
        )
    return lines


def is_clip_model(model: CLIP) -> bool:
    """Returns whether a model is a `CLIPModel` in transformers; InputError where it is none of its models."""
    if isinstance(model.text, SiglipText):
        return False
    return _image(model.image).kind == _text(model.text, zoo.text_kind(model)).kind == "clip"


def _siglip(model: CLIP, params: Mapping[str, Any], margin: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Config and tensors of a SiglipModel; `margin` as in `Preprocessing`."""
    image, text = model.image, model.text
    plain = ("map", True, False, False, "")
    if not isinstance(image, ViT) or plain != (
        *(image.pool, image.patch_bias, image.pre_norm, image.projects, image.parts),
    ):
        raise _unsayable("the text tower is SigLIP's and the image tower is not")
    vision = _shared(image) | {"image_size": image.size + margin, "patch_size": image.patch, "num_channels": 3}
    texts = _shared(text) | {
        "max_position_embeddings": text.context_length,
        "vocab_size": text.vocab_size,
        "projection_size": text.embed_dim,
        "pad_token_id": text.pad_token,
        # Unused, and by default beyond the vocabulary.
        "bos_token_id": None,
        "eos_token_id": None,
    }
    config = {
        "model_type": "siglip",
        "vision_config": vision | {"model_type": "siglip_vision_model", "intermediate_size": _mlp_width(image)},
        "text_config": texts | {"model_type": "siglip_text_model", "intermediate_size": _mlp_width(text)},
    }
    # A model of another loss has no bias; it moves no embedding.
    return config, to_theirs(siglip.table(), {"logit_bias": np.float32(0)} | dict(params))


def _tensors(params: Mapping[str, Any], image: str, text: str, tower: Any) -> dict[str, np.ndarray]:
    if image == text == "clip":
        return to_theirs(huggingface.table(), params)
    params = params if image == "clip" else dinov2.with_unit_scales(params)
    tensors = to_theirs(dual_encoder.table(image, text, tower.registers, tower.gated), params)
    if image == "dinov3":  # a DINOv3ViTModel always has one
        tensors["vision_model.embeddings.mask_token"] = np.zeros((1, 1, tower.width), np.float32)
    # A CLIP tower in a dual encoder: transformers 5.0 knows its keys with their prefix twice, later ones once or twice.
    twice = [prefix for prefix, kind in (("vision_model.", image), ("text_model.", text)) if kind == "clip"]
    return {f"{next(filter(key.startswith, twice), '')}{key}": value for key, value in tensors.items()}


def _image(tower: ViT | ResNet) -> ExportedTower:
    if isinstance(tower, ResNet):
        raise _unsayable("the image tower is a ResNet; try --format=open_clip or openai")
    if tower.pool == "map":
        raise _unsayable("the image tower is SigLIP's and the text tower is not")
    if tower.pool != "cls":
        raise _unsayable("the image tower takes the mean of the patches, transformers' ViTs the class token")
    if (tower.pre_norm and tower.patch_bias) or (not tower.pre_norm and not tower.patch_bias):
        both = "both a norm before the blocks and" if tower.pre_norm else "neither a norm before the blocks nor"
        raise _unsayable(
            f"the image tower has {both} a bias on its patches: CLIPVisionModel has the first, Dinov2Model the second"
        )
    config = _shared(tower) | {"image_size": tower.size, "patch_size": tower.patch, "num_channels": 3}
    if tower.rotary_base is not None and tower.patch_bias and not tower.pre_norm:
        config |= {"model_type": "dinov3_vit", "intermediate_size": _mlp_width(tower), "key_bias": True}
        config |= {"num_register_tokens": tower.registers, "rope_theta": tower.rotary_base, "layerscale_value": 1.0}
        return ExportedTower("dinov3", "DINOv3ViTModel", config | {"use_gated_mlp": tower.gated})
    if parts := tower.parts:
        raise _unsayable(f"the image tower has {parts}")
    if tower.pre_norm:
        config |= {"model_type": "clip_vision_model", "intermediate_size": _mlp_width(tower)}
        return ExportedTower("clip", "CLIPVisionModel", config | {"projection_dim": tower.embed_dim})
    ratio, rest = divmod(_mlp_width(tower), tower.width)
    if rest:
        raise _unsayable(
            f"the image tower's MLP is {_mlp_width(tower)} wide, in Dinov2Model a multiple of {tower.width}"
        )
    # The position table is of image_size already: nothing is resized at run time.
    config |= {"model_type": "dinov2", "mlp_ratio": ratio, "use_mask_token": False, "layerscale_value": 1.0}
    return ExportedTower("dinov2", "Dinov2Model", config)


def _text(tower: Any, kind: str) -> ExportedTower:
    tokenizer = tokenizer_for(kind)
    if tower.vocab_size != tokenizer.vocab_size:
        raise _unsayable(
            f"the text tower has {tower.vocab_size} tokens, {tokenizer.name}'s tokenizer {tokenizer.vocab_size}"
        )
    config = _shared(tower) | {
        "intermediate_size": _mlp_width(tower),
        "max_position_embeddings": tower.context_length,
        "vocab_size": tower.vocab_size,
    }
    if kind == "bert":
        if tower.pool != "pooler":
            raise _unsayable("the text tower takes BERT's [CLS] token as it is, BertModel puts it through a pooler")
        config |= {"model_type": "bert", "type_vocab_size": 2, "pad_token_id": tower.pad_token}
        return ExportedTower("bert", "BertModel", config)
    if tower.end_token != tokenizer.end:
        raise _unsayable(
            f"the text tower ends texts with token {tower.end_token}, CLIP's tokenizer with {tokenizer.end}"
        )
    config |= {
        "model_type": "clip_text_model",
        "projection_dim": tower.embed_dim,
        "bos_token_id": tokenizer.start,
        "eos_token_id": tokenizer.end,
        "pad_token_id": tokenizer.end,
    }
    return ExportedTower("clip", "CLIPTextModel", config)


def _shared(tower: ViT | TextTransformer | Bert | SiglipText) -> dict[str, Any]:
    """Config entries that have the same names in all four models."""
    return {
        "hidden_size": tower.width,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "hidden_act": {"gelu_tanh": "gelu_pytorch_tanh"}.get(tower.activation, tower.activation),
        "layer_norm_eps": tower.norm_eps,
    }


def _mlp_width(tower: ViT | TextTransformer | Bert | SiglipText) -> int:
    return tower.mlp_width or 4 * tower.width


def _processor(preprocessing: Preprocessing, name: str) -> dict[str, Any]:
    side = preprocessing.size + preprocessing.margin
    square = {"height": side, "width": side}
    if preprocessing.resize == "squash":
        kind, size, crop = "SiglipImageProcessor", square, {}
    else:
        kind, size = "CLIPImageProcessor", {"shortest_edge": preprocessing.size}
        crop = {"do_center_crop": True, "crop_size": square}
    return {
        "image_processor_type": kind,
        "processor_class": name.replace("Model", "Processor"),
        "do_convert_rgb": True,
        "do_resize": True,
        "size": size,
        "resample": int(filter_of(preprocessing)),
        **crop,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
    }


def _unsayable(reason: str) -> InputError:
    return InputError(f"--format=hf: no model of transformers computes the same: {reason}")
