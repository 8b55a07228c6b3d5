"""Files that an export writes: safetensors, .pt and JSON. Nothing that exists is overwritten."""

from __future__ import annotations

import json
import stat
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from eval.file_names import all_spelled
from eval.lock import alone
from eval.output import check_place
from eval.whole import lock_of, remove_leftovers, whole
from lrsclip_jax.errors import InputError


@contextmanager
def new_output(out: Path) -> Iterator[Path]:
    """Yields a path for the file or folder `out`, which appears when the block ends, whole; see `eval.whole.whole`.

    Raises:
      InputError: something is at `out` already (an empty folder does not count), another export is writing it, or it
        can't be written.
    """
    check_new(out)
    path = out.absolute()
    with alone(path.parent, "lrsclip convert export", lock_of(path)):
        remove_leftovers(path)
        with whole(path) as partial:
            try:
                yield partial
            except SafetensorError as error:
                raise InputError(f"can't write {out}: {error}") from error
            _refuse_existing(out)


def write_safetensors(
    path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Writes tensors as safetensors, marked as PyTorch's (transformers refuses others), with further metadata."""
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    save_file(dict(tensors), path, metadata={"format": "pt", **metadata})
    path.chmod(mode)  # safetensors lets its owner alone read it


def write_pt(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes tensors as a plain state dict for `torch.load(path, weights_only=True)`; InputError without torch."""
    try:
        import torch
    except ImportError:
        raise InputError(
            "a .pt file needs torch: pip install 'lrsclip_jax[torch]', or let --out end in .safetensors"
        ) from None
    with path.open("wb") as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # torch.save only reads it
        try:
            torch.save({key: torch.from_numpy(value) for key, value in tensors.items()}, file)
        except RuntimeError as error:
            # torch reports a full disk as a wrong count of bytes; the reason is the exception behind it.
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON."""
    path.write_text(json.dumps(all_spelled(value), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def counts(tensors: Mapping[str, np.ndarray]) -> str:
    """Returns the number and size of tensors in words, such as "302 tensors, 598.5 MB"."""
    size = sum(value.nbytes for value in tensors.values())
    return f"{len(tensors)} tensors, {size / 1e6:.1f} MB"


def check_new(out: Path) -> None:
    """Raises InputError unless a file or folder can become `out`."""
    check_place(out)
    _refuse_existing(out)


def _refuse_existing(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} is a folder with something in it: give another --out, nothing is overwritten")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} exists: give another --out, nothing is overwritten")
