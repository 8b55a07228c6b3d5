"""Writes a model in the layouts of other code (Long-CLIP, OpenAI, open_clip, transformers, timm), for ONNX and JAX."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lrsclip_jax.convert.formats import (
    jax_folder,
    onnx_folder,
    onnx_graph,
    open_clip_folder,
    timm_folder,
    transformers_folder,
)
from lrsclip_jax.convert.formats.model_card import ModelFacts
from lrsclip_jax.convert.formats.output_files import counts, new_output, write_pt, write_safetensors
from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING, Preprocessing
from lrsclip_jax.data.tokenizer import Tokenizer, clip_tokenizer
from lrsclip_jax.errors import InputError, nearest
from lrsclip_jax.models.bert_tower import Bert
from lrsclip_jax.models.clip import CLIP
from lrsclip_jax.models.siglip_text import SiglipText
from lrsclip_jax.models.text import TextTransformer
from lrsclip_jax.models.vit import ViT
from lrsclip_jax.pytorch.families import openai

FORMATS = ("longclip", "openai", "open_clip", "hf", "timm", "onnx", "jax")
_FOLDERS = ("hf", "timm", "onnx", "jax")

_WRITERS: dict[str, Callable[[Path, Mapping[str, np.ndarray]], None]] = {
    ".pt": write_pt,
    ".safetensors": write_safetensors,
}
_POSITIONS = {"longclip": 248, "openai": 77}
_TENSORS = {
    "longclip": openai.longclip_tensors,
    "openai": openai.openai_tensors,
    "open_clip": openai.open_clip_tensors,
}
_CODE = {"longclip": "Long-CLIP's", "openai": "OpenAI's", "open_clip": "open_clip's"}


def export(
    model: CLIP,
    params: Mapping[str, Any],
    preprocessing: Preprocessing,
    *,
    format: str,
    out: str | Path,
    source: str,
    facts: ModelFacts | None = None,
    tokenizer: Tokenizer | None = None,
    opset: int = onnx_graph.OLDEST,
    int8: bool = False,
) -> list[str]:
    """Writes a model in another layout, and returns what to tell of it, line by line.

    Args:
      model: whose function is to be written; its dtype does not matter.
      params: its parameters, any float dtype; float32 is written.
      preprocessing: of its images.
      format: "longclip" or "openai", a state dict of which Long-CLIP's and LRSCLIP's code, or OpenAI's, builds its
        model; "open_clip", the same keys for any context length and both activations, as a file, or, if `out` does not
        end in .pt or .safetensors, as a folder with open_clip's config; "hf", a folder that transformers loads; "timm",
        one that timm loads, of the image tower; "onnx" and "jax", folders from which ONNX Runtime and JAX serve.
      out: a path to .pt (needs torch) or .safetensors, or a folder. Nothing there is overwritten.
      source: where the model comes from, for the model card that every folder has.
      facts: for the card, what the model does not tell.
      tokenizer: of its texts, where it comes with the weights.
      opset, int8: of "onnx", see `onnx_folder.write`.

    Raises:
      InputError: an unknown format; a model of other bands than red, green and blue; one whose function the format
        can't say; something at `out`, or no space.
    """
    if model.image.bands:
        raise InputError(f"{source} reads bands {', '.join(model.image.bands)}: no format says which, keep its run")
    if format not in FORMATS:
        raise InputError(f"unknown --format={format}{nearest(format, FORMATS)}; known: {', '.join(FORMATS)}")
    out = Path(out)
    folder = is_folder(format, out)
    if folder and out.suffix in _WRITERS:
        raise InputError(f"--format={format} writes a folder: --out={out} should not end in {out.suffix}")
    if not folder and out.suffix not in _WRITERS:
        raise InputError(f"--format={format} writes a file: --out={out} should end in {' or '.join(_WRITERS)}")
    if format == "hf":
        lines = transformers_folder.write(model, params, preprocessing, out, source, facts, tokenizer)
        return lines if isinstance(model.text, SiglipText) else lines + _without_bias(params)
    if format == "timm":
        return timm_folder.write(model, params, preprocessing, out)
    if format == "onnx":
        return onnx_folder.write(model, params, preprocessing, out, tokenizer=tokenizer, opset=opset, int8=int8)
    if format == "jax":
        return jax_folder.write(model, params, preprocessing, out, tokenizer=tokenizer)
    if fault := next(_faults(model, format), None):
        raise InputError(f"--format={format} can't say what this model computes: {fault}")
    if folder:
        return open_clip_folder.write(model, params, preprocessing, out, source, facts)
    with new_output(out) as partial:
        tensors = _TENSORS[format](params, model)
        _WRITERS[out.suffix](partial, tensors)
    lines = [f"{out}: a state dict for {_CODE[format]} code, {model.text.context_length} positions, {counts(tensors)}"]
    untold = [open_clip_folder.untold(model)] if format == "open_clip" else []
    if (preprocessing.mean, preprocessing.std) != (CLIP_PREPROCESSING.mean, CLIP_PREPROCESSING.std):
        untold.append(f"images are normalised with mean {list(preprocessing.mean)} and std {list(preprocessing.std)}")
    lines += [] if format == "open_clip" else _without_bias(params)
    return lines + [f"what the file does not tell: {fact}" for fact in untold]


def is_folder(format: str, out: Path) -> bool:
    """Returns whether a format makes a folder of `out`, not a file."""
    return format in _FOLDERS or (format == "open_clip" and out.suffix not in (*_WRITERS, ".pth", ".bin", ".ckpt"))


def has_card(format: str, out: Path) -> bool:
    """Returns whether a format makes a folder with a model card of `out`."""
    return format in ("hf", "open_clip") and is_folder(format, out)


def _without_bias(params: Mapping[str, Any]) -> list[str]:
    if "logit_bias" not in params:
        return []
    return [f"left out: the bias of the sigmoid loss, {float(params['logit_bias']):g}; --format=open_clip keeps it"]


def _faults(model: CLIP, format: str) -> Iterator[str]:
    """Yields why the code that reads a format would compute something else of these parameters."""
    image, text, code = model.image, model.text, _CODE[format]
    if not isinstance(text, TextTransformer):
        name = "a BERT" if isinstance(text, Bert) else "SigLIP's"
        yield f"its text tower is {name}; try --format=hf"
        return
    if isinstance(image, ViT) and (parts := image.parts):
        yield f"its image tower has {parts}, {code} has none"
        return
    ours = clip_tokenizer()
    if (text.vocab_size, text.end_token) != (ours.vocab_size, ours.end):
        yield f"its vocabulary of {text.vocab_size} tokens is not CLIP's"
    if isinstance(image, ViT) and image.patch_bias:
        yield f"its image tower has a bias on its patches, {code} has none; try --format=hf"
    if format == "open_clip":
        if isinstance(image, ViT) and image.activation != text.activation:
            yield f"its towers have two activations, {image.activation} and {text.activation}, {code} config has one"
        elif text.activation == "gelu_tanh":
            yield f"its activation is gelu_tanh, {code} config has gelu and quick_gelu"
        return
    towers: dict[str, ViT | TextTransformer] = {"text": text}
    if isinstance(image, ViT):
        towers = {"image": image, "text": text}
        if not image.pre_norm or image.pool != "cls":
            yield f"{code} image tower has a norm before its blocks and takes the class token"
    elif image.feature_width != 64 * image.heads:
        yield f"its image tower has {image.heads} heads, {code} code makes heads of 64: {image.feature_width // 64}"
    for name, tower in towers.items():
        if tower.width != 64 * tower.heads:
            yield f"its {name} tower has {tower.heads} heads, {code} code makes heads of 64: {tower.width // 64}"
        if (tower.mlp_width or 4 * tower.width) != 4 * tower.width:
            yield f"its {name} tower's MLP is {tower.mlp_width} wide, in {code} code {4 * tower.width}"
        if tower.activation != "quick_gelu":
            yield f"its {name} tower has {tower.activation}, {code} code quick_gelu; try --format=open_clip"
        if tower.norm_eps != 1e-5:
            yield f"its {name} tower's norms have eps {tower.norm_eps}, in {code} code 1e-05; try --format=open_clip"
    if text.context_length != _POSITIONS[format]:
        yield f"it has {text.context_length} positions, {code} code {_POSITIONS[format]}{_why_not(text, format)}"


def _why_not(text: TextTransformer, format: str) -> str:
    if format == "longclip":
        return "; import it with --context-length=248" if text.context_length == 77 else "; try --format=open_clip"
    if text.context_length == 248:
        return (
            ". Stretching can't be undone: the first 20 rows and every fourth one after them would come back, "
            "what training put between them would be lost; --format=longclip and open_clip keep it"
        )
    return "; try --format=open_clip"
