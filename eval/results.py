"""Results as JSON files, with the versions of the packages that made them."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.file_names import all_spelled
from eval.whole import write_text

PACKAGES = ("lrsclip_jax", "numpy", "scipy", "scikit-learn", "opencv-python-headless", "faiss-cpu")


def made_by() -> dict[str, str]:
    """Returns the versions of Python and of the packages that a result depends on."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Writes a result as JSON, whole or not at all; InputError where that fails."""
    write_text(path, json.dumps(all_spelled(result), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
