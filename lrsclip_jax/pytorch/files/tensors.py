"""The tensors of a checkpoint file by name, read one at a time: safetensors, .pt files and TorchScript archives."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, TypedDict

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from eval.reading import read_json
from lrsclip_jax.errors import InputError
from lrsclip_jax.pytorch.files.stored import Stored
from lrsclip_jax.pytorch.files.torch_files import saved_tensors
from lrsclip_jax.pytorch.files.torchscript import is_torchscript, scripted_tensors

Kind = Literal["safetensors", "pt", "torchscript"]

# Usual names of a folder's weights, the preferred first; otherwise a file of any name that is the only one.
_USUAL_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
)
# Names in a folder that Orbax wrote, the last two in OpenVision's repositories.
_ORBAX = {"_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt", "jax_orbax_weight", "checkpoint.npz"}
_LONGEST_NAME = 1000  # characters of a tensor's name
_TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
# Names that torch.compile, FSDP and recomputation put between those of modules, wherever they wrap one.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_INDEX_SUFFIX = ".safetensors.index.json"
_SAFETENSORS_DTYPES = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"}


class Tensors(Mapping[str, np.ndarray]):
    """The tensors of one checkpoint, read-only and lazy: `tensors[key]` reads that one, again at every access.

    An array has the dtype it is stored in; bfloat16, which numpy lacks, becomes float32.

    Attributes:
      name: path of the file, for messages.
      kind: "safetensors", "pt" or "torchscript".
    """

    def __init__(self, name: str, kind: Kind, stored: Mapping[str, Stored]):
        self.name = name
        self.kind = kind
        self._stored = dict(stored)

    def __getitem__(self, key: str) -> np.ndarray:
        tensor = self._stored[key].read()
        return tensor.astype(np.float32) if tensor.dtype == ml_dtypes.bfloat16 else tensor

    def __contains__(self, key: object) -> bool:
        return key in self._stored  # Mapping's own would read the tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def shape(self, key: str) -> tuple[int, ...]:
        """Returns the shape of a tensor without reading it."""
        return self._stored[key].shape

    def with_zeros(self, shapes: Mapping[str, tuple[int, ...]]) -> Tensors:
        """Returns the same tensors and further ones, float32 zeros of these shapes."""
        zeros = {key: Stored(shape, functools.partial(np.zeros, shape, np.float32)) for key, shape in shapes.items()}
        return Tensors(self.name, self.kind, {**zeros, **self._stored})

    def renamed(self, rename: Callable[[str], str | None]) -> Tensors:
        """Returns the same tensors under other names; one whose new name is None is left out.

        Raises:
          InputError: two tensors would have one name.
        """
        olds: dict[str, str] = {}
        for old in self._stored:
            new = rename(old)
            if new in olds:
                raise InputError(f"{self.name} has both {olds[new]} and {old}, which are names of one tensor")
            if new is not None:
                olds[new] = old
        return Tensors(self.name, self.kind, {new: self._stored[old] for new, old in olds.items()})


def open_tensors(path: str | os.PathLike[str]) -> Tensors:
    """Opens a checkpoint file; nothing in it is executed.

    Args:
      path: .safetensors, .safetensors.index.json (its shards next to it), or a file of torch.save or torch.jit.save
        (.pt, .pth, .bin, .ckpt), of which the state dict is taken out of its usual wrappers. The prefix "module." of
        data-parallel training is left out, and so are the names that compiled and sharded modules have in addition.

    Raises:
      InputError: no such file, a torn or foreign one, one without tensors, a pickle that wants more than tensors, a
        shard that is missing, a .pt file where torch is not installed.
    """
    kind: Kind
    path = Path(path)
    if not os.path.isfile(path):
        raise InputError(f"{path} is not a file")
    if path.name.endswith(_INDEX_SUFFIX):
        kind, stored = "safetensors", _sharded(path)
    elif path.suffix == ".safetensors":
        kind, stored = "safetensors", _safetensors(path)
    elif path.suffix == ".npz":
        raise InputError(
            f"{path} holds weights of a JAX program, such as big_vision's, whose names no table here has: take the "
            "same model's .safetensors"
        )
    elif path.suffix not in _TORCH_SUFFIXES:
        raise InputError(f"{path}: weights are read from .safetensors, .safetensors.index.json, .pt, .pth, .bin, .ckpt")
    elif is_torchscript(path):
        kind, stored = "torchscript", scripted_tensors(path)
    else:
        kind, stored = "pt", saved_tensors(path)
    if not stored:
        raise InputError(f"{path} holds no tensors")
    if odd := next((key for key in stored if not key.isprintable() or len(key) > _LONGEST_NAME), None):
        raise InputError(f"{path}: {odd!a:.80} can't be the name of a tensor")
    tensors = Tensors(str(path), kind, stored).renamed(_without_wrappers)
    return without_prefix(tensors, "module.") or tensors


def without_prefix(tensors: Tensors, prefix: str) -> Tensors | None:
    """Returns the tensors without a prefix that all their names have; None where one lacks it, or is nothing else."""
    if not all(key.startswith(prefix) and key != prefix for key in tensors):
        return None
    return only_below(tensors, prefix)


def only_below(tensors: Tensors, prefix: str) -> Tensors:
    """Returns the tensors whose names begin with a prefix, without it."""
    return tensors.renamed(lambda key: key.removeprefix(prefix) if key.startswith(prefix) else None)


def _without_wrappers(key: str) -> str:
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS) or key


def weights_file(folder: Path) -> Path:
    """Returns the path of the weights in a folder: a usual name, else the only file of a known kind.

    Raises:
      InputError: no such folder, no weights or several files that may be them (all are named).
    """
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError as error:
        raise InputError(f"{folder} can't be read: {error.strerror}") from None
    return folder / weights_name(names, str(folder))


def weights_name(names: Iterable[str], where: str) -> str:
    """Returns which of the file names in the folder or repository `where` is its weights'; see `weights_file`."""
    names = sorted(names)
    for name in _USUAL_NAMES:
        if name in names:
            return name
    candidates = [name for name in names if name.endswith((".safetensors", *_TORCH_SUFFIXES))]
    if not candidates and not _ORBAX.isdisjoint([*names, Path(where).name]):
        raise InputError(
            f"{where} holds weights of a JAX program, written by Orbax, whose names no table here has: take the same "
            "model's weights for PyTorch, of an OpenVision open_clip_pytorch_model.bin in the same repository"
        )
    if not candidates:
        raise InputError(f"{where} holds no weights (.safetensors, .pt, .pth, .bin, .ckpt)")
    if len(candidates) > 1:
        several = ", ".join(candidates)
        raise InputError(f"{where} holds several weights ({several}): name one, as {where}/{candidates[0]}")
    return candidates[0]


def _safetensors(path: Path) -> dict[str, Stored]:
    def stored(file: safe_open, key: str) -> Stored:
        part = file.get_slice(key)
        if part.get_dtype() not in _SAFETENSORS_DTYPES:
            raise InputError(f"{path}: {key} is stored as {part.get_dtype()}, which is not read here: save it as F32")
        return Stored(tuple(part.get_shape()), lambda: _read(path, key))

    try:
        with safe_open(path, "numpy") as file:
            return {key: stored(file, key) for key in file.keys()}
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{path} can't be read as safetensors, or is cut short: {_line(error)}") from None


def _read(path: Path, key: str) -> np.ndarray:
    # Opened again for each: the pages of a mapped file count as memory of this process until it is unmapped.
    try:
        with safe_open(path, "numpy") as file:
            return file.get_tensor(key)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{path} can't be read any more: {_line(error)}") from None


class _Index(TypedDict):
    """An index of shards: which file each tensor is in."""

    weight_map: dict[str, str]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _sharded(index: Path) -> dict[str, Stored]:
    try:
        content: _Index = read_json(index, _Index)
    except InputError as error:
        raise InputError(f"{error}; an index of shards has a weight_map of tensors to files") from None
    shard_of = content["weight_map"]
    names = sorted(set(shard_of.values()))
    for name in names:
        if Path(name).name != name:
            raise InputError(f"{index} names the shard {name!r:.80}, which would not lie next to it")
        if not os.path.isfile(index.parent / name):
            raise InputError(f"{index.parent}/{name!r:.300}, a shard that {index.name} names, is missing")
    shards = {name: _safetensors(index.parent / name) for name in names}
    for key, name in shard_of.items():
        if key not in shards[name]:
            raise InputError(f"{index.parent / name} lacks {key!r:.80}, which {index.name} says it holds")
    return {key: shards[name][key] for key, name in shard_of.items()}
