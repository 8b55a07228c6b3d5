"""Reads any checkpoint of a known family; its keys say which one it is."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from eval.reading import read_json
from lrsclip_jax.errors import InputError, nearest
from lrsclip_jax.models.layers import ACTIVATIONS
from lrsclip_jax.pytorch.contract import Hints, ReadCheckpoint
from lrsclip_jax.pytorch.families import FAMILIES, Family, known_models, strangers
from lrsclip_jax.pytorch.files import hub
from lrsclip_jax.pytorch.files.tensors import Tensors, only_below, open_tensors, weights_file, without_prefix

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
    match = _recognised(tensors)
    match, rest = (match, ()) if match else _part(tensors)
    if match:
        named, name = match
        found = _family(name).read(named, _config(path.parent / FAMILIES[name]), hints, path.parent)
        _check_scale(found, path)
        return replace(found, unused=(*found.unused, *rest))
    some = ", ".join(sorted(tensors)[:3])
    raise InputError(
        f"{path} is a checkpoint of no known family, its keys are {some}, …; known families: the CLIPs of OpenAI, "
        "open_clip, Long-CLIP and Hugging Face, its dual encoders and ViTs, SigLIP, OpenVision, BERT, MAE, DINOv2 and "
        "DINOv3"
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


def _recognised(tensors: Tensors) -> tuple[Tensors, str] | None:
    """The tensors without the prefixes of wrappers, and whose family they are; InputError for a stranger's."""
    for named in _unwrapped(tensors):
        for name in FAMILIES:
            if _family(name).recognises(named):
                return named, name
        strangers.refuse(named)
    return None


def _part(tensors: Tensors) -> tuple[tuple[Tensors, str] | None, tuple[str, ...]]:
    """The one part of a training program that is a model, as `_recognised` gives it, and the names of all the others.

    Raises InputError where several parts are, such as a student and its teacher.
    """
    *_, bare = _unwrapped(tensors)
    parts = dict.fromkeys(f"{key.partition('.')[0]}." for key in bare if "." in key)
    found = {part: match for part in parts if (match := _recognised(only_below(bare, part)))}
    if len(found) > 1:
        raise InputError(
            f"{tensors.name} holds several models, under {' and '.join(found)}: save the state dict of one of them"
        )
    for part, match in found.items():
        return match, tuple(sorted(key for key in bare if not key.startswith(part)))
    return None, ()


def _family(name: str) -> Family:
    return cast(Family, importlib.import_module(f"lrsclip_jax.pytorch.families.{name}"))


def _check_scale(found: ReadCheckpoint, path: Path) -> None:
    scale = found.params.get("logit_scale")
    if scale is not None and not abs(float(scale)) <= _LARGEST_SCALE:
        raise InputError(f"{path}: logit_scale is {float(scale):g}, the logarithm of a factor that no float holds")


def _config(path: Path) -> dict[str, Any] | None:
    """The object in a file; None where there is no such file."""
    return read_json(path, dict[str, Any]) if path.exists() else None
