"""OpenVision (arXiv 2505.04601) as its authors publish it for PyTorch: their own open_clip's folders.

The keys are OpenAI's. The image tower has no first norm and averages its patches; the text tower is SigLIP's: no mask
hides a token, and the last token of a row, always padding, is pooled. Its projection has no bias, so here it is zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

from eval.reading import convert
from lrsclip_jax.data import tokenizer_file
from lrsclip_jax.data.preprocessing import IMAGENET_PREPROCESSING
from lrsclip_jax.data.tokenizer import Tokenizer
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.models.clip import CLIP
from lrsclip_jax.models.text import TextTransformer
from lrsclip_jax.models.vit import ViT
from lrsclip_jax.pytorch import layout
from lrsclip_jax.pytorch.contract import Hints, ReadCheckpoint
from lrsclip_jax.pytorch.families import open_clip_config, openai, siglip, tower_fields
from lrsclip_jax.pytorch.families.tower_fields import image_sizes, text_sizes
from lrsclip_jax.pytorch.files.tensors import Tensors
from lrsclip_jax.pytorch.layout import Leaf

FAMILY = "OpenVision"

_TOKENS = "token_embedding.weight"
_ROWS = 32000  # of the table of tokens; CLIP's has 49,408
_BIAS = "text_projection.bias"  # no file has it

_PREPROCESSING = replace(IMAGENET_PREPROCESSING, resize="squash", interpolation="bilinear")


class _TokenizerSettings(TypedDict):
    strip_sep_token: bool


class _Text(open_clip_config.LastText):
    hf_tokenizer_name: str
    tokenizer_kwargs: _TokenizerSettings


class _Model(TypedDict):
    embed_dim: open_clip_config.Size
    vision_cfg: open_clip_config.Vision
    text_cfg: _Text


def recognises(tensors: Tensors) -> bool:
    """Whether the keys are OpenAI's and the table of tokens is OpenVision's."""
    return {"visual.conv1.weight", _TOKENS} <= tensors.keys() and tensors.shape(_TOKENS)[:1] == (_ROWS,)


def read(tensors: Tensors, config: dict[str, Any] | None, hints: Hints, folder: Path) -> ReadCheckpoint:
    """Returns both towers and the temperature.

    Args:
      tensors: of a file that `recognises` accepts.
      config: open_clip_config.json.
      hints: what the user says, which must be the same.
      folder: where the file lies, and perhaps a tokenizer.json; the word pieces of uncased BERT ship with the package.

    Raises:
      InputError: no config or one of another model; missing, unexpected or misshapen tensors; another tokenizer; a hint
        that says otherwise.
    """
    if config is None:
        raise InputError(
            f"{tensors.name}: an OpenVision comes with an {openai.CONFIG}, which alone says its heads and eps"
        )
    where = str(folder / openai.CONFIG)
    model, preprocess = open_clip_config.parts(config, where, open_clip_config.LAST_KNOWN, open_clip_config.LAST_ONLY)
    convert(model, f"{where}: model_cfg", _Model)
    convert(preprocess, f"{where}: preprocess_cfg", open_clip_config.LastPixels)
    tokenizer = _tokenizer(model["text_cfg"], folder, where)
    both = {"embed_dim": model["embed_dim"]}
    said = {
        "image": both | {"activation": "gelu"} | open_clip_config.image_fields(model["vision_cfg"], where),
        "text": both | open_clip_config.last_text_fields(model["text_cfg"], where),
    }
    side, leaves = said["image"].pop("size"), table(said["image"]["pre_norm"])
    tensors = tensors.with_zeros({_BIAS: (model["embed_dim"],)})
    shown = {"image": image_sizes(leaves, tensors), "text": text_sizes(leaves, tensors)}
    siglip.check_side(tensors, side, openai.CONFIG, shown["image"])
    reasons = {"preprocessing": openai.CONFIG if preprocess else "the family's", "text.pad_token": "open_clip's code"}
    for tower, hint in (("image", hints.image_heads), ("text", hints.text_heads)):
        fields, sizes = said[tower], shown[tower]
        openai.compare(tensors.name, tower, sizes, fields)
        width, source = sizes["width"], openai.CONFIG
        fields["heads"], _ = tower_fields.heads(tensors, tower, width, fields["heads"], source, hint)
        fields["activation"], _ = tower_fields.activation(tensors, fields["activation"], source, hints.activation)
        reasons |= {f"{tower}.{field}": source for field in fields.keys() - sizes.keys()}
    image = {"patch_bias": False} | shown["image"] | said["image"]
    text = {"kind": "siglip"} | said["text"] | {"pad_token": tokenizer.pad}
    tokenizer_file.check_fits(tokenizer, text, f"{folder / tokenizer_file.FILE}")
    shapes = layout.shapes(zoo.create("custom", image, text))
    layout.check(leaves, shapes, tensors, "an OpenVision")
    pixels = open_clip_config.preprocessing(preprocess, where, side, _PREPROCESSING)
    return ReadCheckpoint(
        family=FAMILY,
        params=layout.to_ours(leaves, shapes, tensors),
        image=image,
        text=text,
        preprocessing=replace(pixels, size=image["size"], margin=side - image["size"]),
        tokenizer=tokenizer,
        reasons=reasons,
    )


def table(pre_norm: bool = False) -> list[Leaf]:
    """Returns where every parameter stands; the bias of the texts' projection under a key that files have not."""
    sketch = CLIP(ViT(pre_norm=pre_norm), TextTransformer())
    return [*openai.table(sketch), Leaf("text/projection/bias", (_BIAS,))]


def _tokenizer(text: Mapping[str, Any], folder: Path, where: str) -> Tokenizer:
    """The tokenizer of the folder, or the one that ships where the config names it."""
    if not text["tokenizer_kwargs"]["strip_sep_token"]:
        raise InputError(f"{where}: tokenizer_kwargs has strip_sep_token false, OpenVision's texts have no [SEP]")
    tokenizer = tokenizer_file.in_folder(folder)
    if tokenizer is None or tokenizer.name != "openvision":
        name = text["hf_tokenizer_name"]
        raise InputError(f"{where}: hf_tokenizer_name is {name!r:.80}, OpenVision's tokenizer is bert-base-uncased")
    return tokenizer
