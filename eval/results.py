"""Files of results: written whole or not at all, with what made them."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.errors import InputError

PACKAGES = ("lrsclip_jax", "numpy", "scipy", "scikit-learn", "opencv-python-headless", "faiss-cpu")


def made_by() -> dict[str, str]:
    """Returns the versions of what a result was made with."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Writes a result as JSON."""
    write_text(path, json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a file, whole or not at all, with the folders above it; InputError where that can't be."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8", newline="")
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise InputError(f"can't write {path}: {error.strerror or error}") from error
