"""The names that a pickle of torch.save may hold besides torch's: they are checked first, and nothing of them is made.

A training program saves its arguments and scores with the weights: `argparse.Namespace`, numbers of NumPy. In place of
such an object there is an empty `Ignored` afterwards.
"""

from __future__ import annotations

import pickletools
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from lrsclip_jax.errors import InputError

_TORCHS = {"builtins.set", "collections.Counter", "collections.OrderedDict", "_codecs.encode"}  # made by torch.load
_DICTS = {"collections.defaultdict"}
_TYPES = ("bool", "dict", "float", "int", "list", "str", "tuple")  # a defaultdict names one
_IGNORED = {
    "argparse.Namespace",
    *(f"builtins.{name}" for name in _TYPES),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"numpy.{name}" for name in ("dtype", "ndarray")),
    *(f"pathlib.{name}" for name in ("Path", "PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath")),
}
_LARGEST = 1 << 28  # bytes; far more than any model's
_LEGACY = 5  # pickles one behind the other in a file of before PyTorch 1.6


class Ignored:
    """An object of a file that was not made; calling, building and filling it changes nothing."""

    def __new__(cls, *_: Any) -> Any:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


class _Dict(Ignored):
    def __new__(cls, *_: Any) -> Any:
        return {}


def stand_ins() -> list[Any]:
    """Returns what `torch.serialization.safe_globals` takes the allowed names for."""
    return [(Ignored, name) for name in sorted(_IGNORED)] + [(_Dict, name) for name in sorted(_DICTS)]


def check(path: Path, zipped: bool) -> None:
    """Raises InputError where a pickle of a file names anything but torch's own and what may be ignored, or is huge.

    Args:
      path: a file of torch.save.
      zipped: whether it is a zip file, as all are since PyTorch 1.6.
    """
    try:
        wanted = next((name for name in _names(path, zipped) if not _is_allowed(name)), None)
    except InputError:
        raise
    except Exception:  # foreign bytes make pickletools and zipfile raise many kinds
        raise InputError(f"{path} can't be read as a file of torch.save: it is cut short or something else") from None
    if wanted is not None:
        shown = wanted if wanted.isprintable() and len(wanted) < 200 else f"{wanted!a:.200}"
        raise InputError(
            f"{path} is refused: it wants {shown}, which is no tensor, and unpickling that could run code; "
            "save its state_dict alone where you trust it"
        )


def _is_allowed(name: str) -> bool:
    # Of its own names torch.load(weights_only=True) knows which are harmless.
    return name in _TORCHS | _DICTS | _IGNORED or (name.startswith("torch.") and name.isprintable())


def _names(path: Path, zipped: bool) -> Iterator[str]:
    if not zipped:
        with path.open("rb") as file:
            for _ in range(_LEGACY):
                yield from _named(file)
        return
    with zipfile.ZipFile(path) as archive:
        info = next(info for info in archive.infolist() if info.filename.endswith("/data.pkl"))
        if info.file_size > _LARGEST:
            raise InputError(f"{path}: {info.filename} has {info.file_size:,} bytes, at most {_LARGEST:,} are read")
        with archive.open(info) as file:
            yield from _named(file)


def _named(file: IO[bytes]) -> Iterator[str]:
    for operation, argument, _ in pickletools.genops(file):
        if operation.name in ("GLOBAL", "INST"):
            module, _, name = str(argument).partition(" ")
            # torch.save writes Python 2's names.
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
            yield f"{module}.{name}"
