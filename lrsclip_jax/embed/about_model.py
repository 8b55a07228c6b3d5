"""The fields of meta.json that tell which model has made an embedding set."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from lrsclip_jax.models.encoder_hash import encoder_hash
from lrsclip_jax.models.siglip_text import SiglipText
from lrsclip_jax.pretrained import Pretrained
from lrsclip_jax.sources.row_values import clean


def about_model(model: Pretrained, name: str | None = None) -> dict[str, Any]:
    """Returns the fields of a model; `name` is its name in reports, by default that of its source."""
    return {
        # A path may hold bytes that are no text, which meta.json can't.
        "model": clean(name or Path(model.source.rstrip("/")).stem.removeprefix("hf:")),
        "checkpoint": clean(model.source),
        "family": model.family,
        "step": model.step,
        "weights": model.weights_hash,
        "features": model.features,
        "preprocessing": model.preprocessing.described() if model.embeds("image") else None,
        "tokenizer": model.tokenizer.name if model.embeds("text") else None,
        "context_length": model.context_length if model.embeds("text") else None,
        "logit_scale": model.logit_scale if model.features == "projected" else None,
        "dtype": model.dtype,
        "made_by": f"lrsclip_jax {_version()}, jax {jax.__version__}, {jax.devices()[0].device_kind}",
    }


def about_encoder(model: Pretrained, longest: int) -> dict[str, Any]:
    """Returns which tower gave a set of encoder features, for training from memory.

    Args:
      model: which embeds images or texts.
      longest: text that it embedded, in tokens.
    """
    tower = "image" if model.embeds("image") else "text"
    params = model.params[tower]
    rows = len(params.get("position_embedding", ()))  # an image tower may have rotary positions
    positions = rows if tower == "image" or isinstance(model.text, SiglipText) else min(longest, rows)
    return {
        "tower": tower,
        "hash": encoder_hash(getattr(model, tower), params, positions),
        "positions": positions,
    }


def _version() -> str:
    try:
        return metadata.version("lrsclip_jax")
    except metadata.PackageNotFoundError:
        return "from a folder"
