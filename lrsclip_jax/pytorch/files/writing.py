"""Results that are whole or not there: written beside their place, and moved to it at the end."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from lrsclip_jax.errors import InputError


@contextmanager
def whole(out: Path) -> Iterator[Path]:
    """Yields a path beside `out` for a file or folder, which takes its place when the block has ended.

    If the block raises, nothing is left. A process that is killed leaves OUT.partial-<its number> behind, which nothing
    reads.

    Raises:
      InputError: there is something at `out` already (an empty folder is nothing), or the disk refuses.
    """
    place = out.absolute()
    partial = place.with_name(f"{place.name}.partial-{os.getpid()}")
    try:
        _refuse_existing(out)
        place.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)  # of a process that had our number
        yield partial
        _refuse_existing(out)
        partial.replace(place)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{out} can't be written: {getattr(error, 'strerror', None) or error}") from error
    finally:
        _remove(partial)


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes tensors as safetensors, marked as PyTorch's, without which transformers refuses them."""
    save_file(dict(tensors), path, metadata={"format": "pt"})


def write_pt(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes tensors as a plain state dict for `torch.load(path, weights_only=True)`; InputError without torch."""
    try:
        import torch
    except ImportError:
        raise InputError(
            "a .pt file needs torch: pip install 'lrsclip_jax[torch]', or let --out end in .safetensors"
        ) from None
    with path.open("wb") as file:
        try:
            torch.save({key: torch.from_numpy(value) for key, value in tensors.items()}, file)
        except RuntimeError as error:
            # A full disk, too, comes as a count of bytes that is off; the reason is what Python said to torch.
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def counts(tensors: Mapping[str, np.ndarray]) -> str:
    """Returns how many tensors there are and how large they are, for a person."""
    size = sum(value.nbytes for value in tensors.values())
    return f"{len(tensors)} tensors, {size / 1e6:.1f} MB"


def _refuse_existing(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} is a folder with something in it: give another --out, nothing is overwritten")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} exists: give another --out, nothing is overwritten")


def _remove(partial: Path) -> None:
    if partial.is_dir():
        shutil.rmtree(partial)
    else:
        partial.unlink(missing_ok=True)
