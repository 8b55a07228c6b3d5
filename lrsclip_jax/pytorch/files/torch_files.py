"""The state dict in a file of torch.save; TorchScript archives are read in torchscript.py."""

from __future__ import annotations

import functools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrsclip_jax.errors import InputError
from lrsclip_jax.pytorch.files import pickles
from lrsclip_jax.pytorch.files.stored import Stored

if TYPE_CHECKING:
    import torch

# Keys under which training programs keep the model, next to the optimizer, the epoch and the arguments; and those under
# which they keep an average of its weights.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "student")
_AVERAGES = ("ema", "ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "module_ema", "teacher")
_MOST_WRAPPERS = 8  # one in the other; a dictionary may also hold itself


def saved_tensors(path: Path) -> dict[str, Stored]:
    """Returns the tensors of the state dict in a .pt file by name. Everything else in it is left out, see `pickles`.

    Zip files (all since PyTorch 1.6) are mapped and read tensor by tensor, older ones are read whole. Needs torch.

    Raises:
      InputError: torch is not installed; the file is cut short, foreign, without tensors, or its pickle wants anything
        that torch does not take for safe, which is named.
    """
    try:
        zipped = zipfile.is_zipfile(path)
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is damaged ({error}): download it again") from None
    with path.open("rb") as file:
        # The list of a zip file's contents is its end.
        if file.read(4) == b"PK\x03\x04" and not zipped:
            raise InputError(f"{path} is cut short: download it again")
    try:
        import torch
    except ImportError:
        raise InputError(f"{path} is read with PyTorch: pip install 'lrsclip_jax[torch]'") from None
    pickles.check(path, zipped)
    try:
        with torch.serialization.safe_globals(pickles.stand_ins()):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # foreign bytes make an unpickler raise anything
        if wanted := re.search(r"GLOBAL (\S+)", str(error)):
            raise InputError(
                f"{path} is refused: it wants {wanted[1]}, which is no tensor, and unpickling that could run code; "
                "save its state_dict alone where you trust it"
            ) from None
        raise InputError(f"{path} can't be read as a file of torch.save: it is cut short or something else") from None
    return {
        key: Stored(tuple(value.shape), functools.partial(_array, value, f"{path}: {key}"))
        for key, value in _state_dict(content, path).items()
    }


def _state_dict(content: Any, path: Path) -> dict[str, torch.Tensor]:
    import torch

    for _ in range(_MOST_WRAPPERS):
        if not isinstance(content, Mapping):
            break
        models = [key for key in _WRAPPERS if isinstance(content.get(key), Mapping)]
        averages = [key for key in _AVERAGES if isinstance(content.get(key), Mapping) and _nests(content[key])]
        if models and averages:
            raise InputError(
                f"{path} holds the last weights under {models[0]!r} and their average under {averages[0]!r}: "
                "save one of the two alone"
            )
        if not models and not averages:
            break
        content = content[(models or averages)[0]]
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}, not a state dict of tensors by name")
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, torch.Tensor)}
    if not tensors:
        names = ", ".join(f"{key!r:.40}" for key in list(content)[:10] if isinstance(key, str | int))
        raise InputError(f"{path} holds no tensors of a model, only {names or 'an empty dict'}")
    for key, value in tensors.items():
        if _claims_more_than_it_has(value):
            raise InputError(f"{path}: {key!r:.80} has the shape {list(value.shape)} and fewer numbers: damaged")
    return tensors


def _nests(values: Mapping[Any, Any]) -> bool:
    """Whether there are tensors, or what may hold some: not so among the settings of an average."""
    import torch

    return any(isinstance(value, torch.Tensor | Mapping) for value in values.values())


def _claims_more_than_it_has(tensor: torch.Tensor) -> bool:
    """Whether a few numbers stand for many, which as_strided can do: a copy could take any memory."""
    try:
        return tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()
    except (RuntimeError, TypeError):  # sparse, or without numbers: not read as they are
        return False


def _array(tensor: torch.Tensor, where: str) -> np.ndarray:
    import torch

    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    try:
        return np.array(tensor.detach().numpy())  # a copy: the file may change under a mapped one
    except (TypeError, RuntimeError):
        kind = f"{tensor.dtype} {tensor.layout}".replace("torch.", "")
        raise InputError(
            f"{where} is stored as {kind} on {tensor.device}, which numpy lacks: save it as float32"
        ) from None
