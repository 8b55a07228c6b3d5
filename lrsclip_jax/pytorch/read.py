"""Any checkpoint that is known here: what it is, by its keys, and who reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lrsclip_jax.errors import InputError, nearest
from lrsclip_jax.models.layers import ACTIVATIONS
from lrsclip_jax.pytorch.contract import Found, Hints
from lrsclip_jax.pytorch.families import bert, dinov2, dual_encoder, huggingface, known_models, mae, openai, strangers
from lrsclip_jax.pytorch.files import hub
from lrsclip_jax.pytorch.files.tensors import open_tensors, weights_file

# Each with the file beside the weights that describes them; the first whose keys these are reads them.
_FAMILIES = (
    (openai, openai.CONFIG),
    (huggingface, "config.json"),
    (dual_encoder, "config.json"),
    (bert, "config.json"),
    (mae, "config.json"),
    (dinov2, "config.json"),
)


def read(source: str, hints: Hints | None = None) -> Found:
    """Reads the weights of a source.

    Args:
      source: a weights file, a folder with one, or "hf:owner/name[@revision]".
      hints: what the user says beside.

    Raises:
      InputError: no such source; a hint that is unknown or contradicts the files; a file that is torn, of an unknown
        kind or another model, or does not tell what it computes.
    """
    hints = hints or Hints()
    _check(hints)
    path = hub.local(source)
    if (path / "checkpoints").is_dir():
        raise InputError(f"{source} looks like a run of lrsclip_jax, and has no checkpoint: nothing to convert")
    if path.is_dir():
        path = weights_file(path)
    tensors = open_tensors(path)
    for family, config in _FAMILIES:
        if family.recognises(tensors):
            return family.read(tensors, _json(path.parent / config), hints, path.parent)
    strangers.refuse(tensors)
    some = ", ".join(sorted(tensors)[:3])
    raise InputError(
        f"{path} is no checkpoint known here, its keys are {some}, …: known are the CLIPs of OpenAI, open_clip, "
        "Long-CLIP and Hugging Face, its dual encoders, BERT, MAE and DINOv2"
    )


def _check(hints: Hints) -> None:
    if hints.activation not in (None, *ACTIVATIONS):
        raise InputError(
            f"--activation={hints.activation} is unknown{nearest(hints.activation, ACTIVATIONS)}; "
            f"known are {', '.join(ACTIVATIONS)}"
        )
    if hints.model is not None:
        known_models.model(hints.model)
    for option, heads in (("--image-heads", hints.image_heads), ("--text-heads", hints.text_heads)):
        if heads is not None and heads < 1:
            raise InputError(f"{option}={heads}: a tower has at least one head")


def _json(path: Path) -> dict[str, Any] | None:
    """The object in a file; None where there is no such file."""
    try:
        config = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read: {error}") from None
    if not isinstance(config, dict):
        raise InputError(f"{path} is not a config: it holds no JSON object")
    return config
