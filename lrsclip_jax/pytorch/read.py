"""Reads any checkpoint of a known family; its keys say which one it is."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from eval.reading import read_json
from lrsclip_jax.errors import InputError, nearest
from lrsclip_jax.models.layers import ACTIVATIONS
from lrsclip_jax.pytorch.contract import Hints, ReadCheckpoint
from lrsclip_jax.pytorch.families import FAMILIES, Family, known_models, strangers
from lrsclip_jax.pytorch.files import hub
from lrsclip_jax.pytorch.files.tensors import Tensors, open_tensors, weights_file, without_prefix

_LARGEST_SCALE = 80.0  # of the logarithm of a factor: float32 ends at 88


def read(source: str, hints: Hints | None = None) -> ReadCheckpoint:
    """Reads a weights file, a folder with one, or "hf:owner/name[@revision]", as `read_at` does."""
    return read_at(hub.local(source), source, hints)


def read_at(path: Path, source: str, hints: Hints | None = None) -> ReadCheckpoint:
    """Reads the weights of a source.

    Args:
      path: from `hub.local`.
      source: for messages.
      hints: what the user says of it.

    Raises:
      InputError: no such source; a hint that is unknown or contradicts the files; a file that is torn, of an unknown
        kind or another model, or does not tell what it computes.
    """
    hints = hints or Hints()
    _check(hints)
    if (path / "checkpoints").is_dir():
        raise InputError(f"{source} looks like a run of lrsclip_jax, and has no checkpoint: nothing to convert")
    if path.is_dir():
        path = weights_file(path)
    tensors = open_tensors(path)
    for named in _unwrapped(tensors):
        for name, config in FAMILIES.items():
            family = cast(Family, importlib.import_module(f"lrsclip_jax.pytorch.families.{name}"))
            if family.recognises(named):
                found = family.read(named, _config(path.parent / config), hints, path.parent)
                _check_scale(found, path)
                return found
        strangers.refuse(named)
    some = ", ".join(sorted(tensors)[:3])
    raise InputError(
        f"{path} is a checkpoint of no known family, its keys are {some}, …; known families: the CLIPs of OpenAI, "
        "open_clip, Long-CLIP and Hugging Face, its dual encoders, BERT, MAE and DINOv2"
    )


def _check(hints: Hints) -> None:
    if hints.activation is not None and hints.activation not in ACTIVATIONS:
        raise InputError(
            f"unknown --activation={hints.activation}{nearest(hints.activation, ACTIVATIONS)}; "
            f"known: {', '.join(ACTIVATIONS)}"
        )
    if hints.model is not None:
        known_models.model(hints.model)
    for option, heads in (("--image-heads", hints.image_heads), ("--text-heads", hints.text_heads)):
        if heads is not None and heads < 1:
            raise InputError(f"{option}={heads}: a tower has at least one head")


def _unwrapped(tensors: Tensors) -> Iterator[Tensors]:
    """The tensors, and then without the prefixes that all share: training programs wrap a model under any name."""
    inner: Tensors | None = tensors
    while inner is not None:
        yield inner
        inner = without_prefix(inner, f"{next(iter(inner)).partition('.')[0]}.")


def _check_scale(found: ReadCheckpoint, path: Path) -> None:
    scale = found.params.get("logit_scale")
    if scale is not None and not abs(float(scale)) <= _LARGEST_SCALE:
        raise InputError(f"{path}: logit_scale is {float(scale):g}, the logarithm of a factor that no float holds")


def _config(path: Path) -> dict[str, Any] | None:
    """The object in a file; None where there is no such file."""
    return read_json(path, dict[str, Any]) if path.exists() else None
