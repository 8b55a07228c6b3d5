"""A folder that open_clip loads as "local-dir:FOLDER": weights, and the config that says what they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.whole import write_text
from lrsclip_jax.convert.formats.model_card import ModelFacts, model_card
from lrsclip_jax.convert.formats.output_files import counts, new_output, write_json, write_safetensors
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.models.clip import CLIP
from lrsclip_jax.models.resnet import ResNet
from lrsclip_jax.models.vit import ViT
from lrsclip_jax.pytorch.families.openai import BIAS, CONFIG, open_clip_tensors

WEIGHTS = "open_clip_model.safetensors"


def write(
    model: CLIP,
    params: Mapping[str, Any],
    preprocessing: Preprocessing,
    out: Path,
    source: str,
    facts: ModelFacts | None = None,
) -> list[str]:
    """Writes the folder `out`, and returns what to tell of it; see `export.export`."""
    with new_output(out) as partial:
        partial.mkdir()
        write_json(partial / CONFIG, config(model, preprocessing, params.get(BIAS)))
        described = {"name": out.name, "architecture": "CLIP of open_clip", "source": source, "library": "open_clip"}
        write_text(partial / "README.md", model_card(model, preprocessing, **described, facts=facts))
        tensors = open_clip_tensors(params, model)
        write_safetensors(partial / WEIGHTS, tensors)
    files = f"{WEIGHTS}, {CONFIG}, README.md"
    return [
        f"{out}: a CLIP for open_clip, {model.text.context_length} positions, {counts(tensors)} ({files})",
        f"open_clip.create_model_and_transforms('local-dir:{out}')",
    ]


def config(model: CLIP, preprocessing: Preprocessing, bias: Any = None) -> dict[str, Any]:
    """Returns what open_clip_config.json says of a model; `convert.open_clip_config.towers` reads it back.

    With the bias of the sigmoid loss open_clip's model has such a parameter.
    """
    image, text = model.image, model.text
    return {
        "model_cfg": {
            "embed_dim": image.embed_dim,
            **({} if bias is None else {"init_logit_bias": float(bias)}),
            "quick_gelu": text.activation == "quick_gelu",
            "vision_cfg": _resnet(image) if isinstance(image, ResNet) else _vit(image),
            "text_cfg": _tower(text)
            | {"context_length": text.context_length, "vocab_size": text.vocab_size, "heads": text.heads},
        },
        "preprocess_cfg": {
            "size": preprocessing.size,
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "interpolation": preprocessing.interpolation,
            "resize_mode": {"shorter": "shortest", "squash": "squash"}[preprocessing.resize],
        },
    }


def _vit(tower: ViT) -> dict[str, Any]:
    vision = _tower(tower) | {
        "image_size": tower.size,
        "patch_size": tower.patch,
        "head_width": tower.width // tower.heads,
    }
    if not tower.pre_norm:
        vision["no_ln_pre"] = True
    if tower.pool == "mean":
        vision |= {"pool_type": "avg", "final_ln_after_pool": True}
    return vision


def _resnet(tower: ResNet) -> dict[str, Any]:
    sizes = {"image_size": tower.size, "layers": list(tower.stages), "width": tower.width, "patch_size": None}
    return sizes | {"head_width": tower.feature_width // tower.heads}


def untold(model: CLIP) -> str:
    """Returns what a file without a config leaves open."""
    image, text = model.image, model.text
    said = f"{text.activation}, {image.heads} heads of the image tower and {text.heads} of the text tower"
    eps = " and ".join(f"{tower.norm_eps:g}" for tower in (image, text) if not isinstance(tower, ResNet))
    return f"{said}, norms' eps {eps}; a folder (--out without suffix) tells it"


def _tower(tower: Any) -> dict[str, Any]:
    said = {"width": tower.width, "layers": tower.layers}
    if tower.mlp_width not in (None, 4 * tower.width):
        said["mlp_ratio"] = (
            tower.mlp_width + 0.5
        ) / tower.width  # open_clip drops what the product has after the point
    if tower.norm_eps != 1e-5:
        said["norm_kwargs"] = {"eps": tower.norm_eps}
    return said
