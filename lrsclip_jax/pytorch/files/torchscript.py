"""The state dict of a TorchScript archive (torch.jit.save), read as data: its code is never run, torch is not needed.

The archive is a zip file: `data.pkl` is a pickle of the modules, whose tensors name a storage, an offset, a shape and
strides; `data/N` are the bytes of storage N. OpenAI published CLIP so.
"""

from __future__ import annotations

import collections
import functools
import io
import itertools
import math
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from eval import memory
from lrsclip_jax.errors import InputError
from lrsclip_jax.pytorch.files.stored import Stored

_DTYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
# Far more than any archive has.
_LARGEST_PICKLE = 1 << 28  # bytes
_MOST_MODULES, _DEEPEST = 100_000, 100


def is_torchscript(path: Path) -> bool:
    """Returns whether a file is a TorchScript archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _root(archive) is not None
    except Exception:  # damaged bytes make zipfile raise many kinds
        return False


def scripted_tensors(path: Path) -> dict[str, Stored]:
    """Returns the tensors of a TorchScript archive by their names in its state dict.

    These are the parameters, the buffers and, of a scripted module, plain tensor attributes.

    Raises:
      InputError: a torn archive, or a pickle that wants anything but tensors and modules, which is named.
    """
    archive = zipfile.ZipFile(path)
    root = _root(archive)
    assert root is not None, "`is_torchscript` was asked first"
    try:
        unpickler = _Unpickler(archive, root, path)
        tensors = dict(_flat(unpickler.load(), unpickler.module, itertools.count()))
    except InputError:
        raise
    except Exception as error:  # foreign bytes make an unpickler raise anything
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"{path} can't be read as a TorchScript archive ({said})") from None
    return {
        name: Stored(tensor.shape, functools.partial(_array, archive, tensor, path)) for name, tensor in tensors.items()
    }


class _Storage(NamedTuple):
    entry: str
    dtype: type[np.generic]
    size: int


class _Tensor(NamedTuple):
    """A tensor as the pickle describes it; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


# Python's own unpickler: the one in C makes room for as many objects as the pickle says it will name.
class _Unpickler(pickle._Unpickler):
    """Makes plain records of tensors and modules: what the pickle names is looked up here, and never imported."""

    def __init__(self, archive: zipfile.ZipFile, root: str, path: Path):
        info = archive.getinfo(f"{root}data.pkl")
        if info.file_size > _LARGEST_PICKLE:
            raise ValueError(f"data.pkl has {info.file_size:,} bytes, at most {_LARGEST_PICKLE:,} are read")
        super().__init__(io.BytesIO(archive.read(info)))
        self.archive, self.root, self.path = archive, root, path
        # A class of this archive's own, as a pickle can write to the objects it is given.
        self.module = type("Module", (), {})

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return self.module
        if module == "torch" and name in _DTYPES:
            return name
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch.jit._pickle":  # says of what type a list or a dictionary is
            return lambda value, *_: value
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        wanted = f"{module}.{name}"
        shown = wanted if wanted.isprintable() and len(wanted) < 200 else f"{wanted!a:.200}"
        raise InputError(f"{self.path} is refused: it wants {shown}, which is no tensor or module and could run code")

    def persistent_load(self, saved_id: Any) -> _Storage:
        _, kind, key, _, size = saved_id
        storage = _Storage(f"{self.root}data/{key}", _DTYPES[kind], size)
        info = self.archive.getinfo(storage.entry)
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{storage.entry} is compressed")
        if type(size) is not int or info.file_size != size * np.dtype(storage.dtype).itemsize:
            raise ValueError(f"{storage.entry} has {info.file_size} bytes for {size!r:.40} {kind} elements")
        return storage

    def _tensor(self, storage: _Storage, offset: int, shape: tuple, strides: tuple, *_: Any) -> _Tensor:
        # as_strided below reads wherever it is told to, as often as it is told to.
        if not all(type(number) is int for number in (offset, *shape, *strides)) or math.prod(shape) > storage.size:
            raise ValueError(f"a tensor of shape {shape!r:.80} in {storage.entry}, which has {storage.size} elements")
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if min(offset, *shape, *strides, 0) < 0 or (0 not in shape and last >= storage.size):
            raise ValueError(f"a tensor reaches beyond {storage.entry}")
        return _Tensor(storage, offset, shape, strides)


def _root(archive: zipfile.ZipFile) -> str | None:
    """The folder of an archive's content, with its slash; None unless it is TorchScript."""
    suffix = "/constants.pkl"
    return next((name[: 1 - len(suffix)] for name in archive.namelist() if name.endswith(suffix)), None)


def _flat(module: Any, kind: type, met: Iterator[int], prefix: str = "", depth: int = 0) -> Iterator:
    """The tensors of a module and of those in it by their dotted names; `met` counts modules."""
    if depth > _DEEPEST or next(met) > _MOST_MODULES:
        raise ValueError("its modules hold each other, or there is no end of them")
    for name, value in vars(module).items():
        if isinstance(value, _Tensor):
            yield prefix + name, value
        elif isinstance(value, kind):
            yield from _flat(value, kind, met, f"{prefix}{name}.", depth + 1)


def _array(archive: zipfile.ZipFile, tensor: _Tensor, path: Path) -> np.ndarray:
    memory.check(tensor.storage.size * np.dtype(tensor.storage.dtype).itemsize, f"{path}: {tensor.storage.entry}")
    try:
        content = archive.read(tensor.storage.entry)
    except Exception as error:  # zipfile raises many kinds for damaged bytes
        raise InputError(f"{path} is damaged: {error}") from None
    elements = np.frombuffer(content, tensor.storage.dtype)[tensor.offset :]
    strides = [stride * elements.itemsize for stride in tensor.strides]
    return np.array(np.lib.stride_tricks.as_strided(elements, tensor.shape, strides), order="C")
