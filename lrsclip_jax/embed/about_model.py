"""The fields of meta.json that tell which model has made an embedding set."""

from __future__ import annotations

import dataclasses
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

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
        "preprocessing": dataclasses.asdict(model.preprocessing) if model.embeds("image") else None,
        "tokenizer": model.tokenizer.name if model.embeds("text") else None,
        "context_length": model.context_length if model.embeds("text") else None,
        "logit_scale": model.logit_scale if model.features == "projected" else None,
        "dtype": model.dtype,
        "made_by": f"lrsclip_jax {_version()}, jax {jax.__version__}, {jax.devices()[0].device_kind}",
    }


def _version() -> str:
    try:
        return metadata.version("lrsclip_jax")
    except metadata.PackageNotFoundError:
        return "from a folder"
