"""Results as JSON files, with the versions of the packages that made them, and a checksum that shows damage."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from eval.errors import InputError
from eval.reading import Finite, convert
from eval.whole import write_text

PACKAGES = ("lrsclip_jax", "numpy", "scipy", "scikit-learn", "opencv-python-headless", "faiss-cpu")


CHECKSUM = "checksum"


class _Result(TypedDict):
    task: str
    model: str
    dataset: str
    split: NotRequired[str | None]
    features: NotRequired[str | None]


class _Retrieval(_Result):
    text_to_image: dict[str, Finite]
    image_to_text: dict[str, Finite]
    mean_recall: Finite
    kind: NotRequired[str | None]
    texts: NotRequired[int | None]
    image_queries: NotRequired[int | None]


class _ZeroShot(_Result):
    accuracy: Finite
    per_template: NotRequired[dict[str, Finite]]
    templates: NotRequired[list[str]]
    images: NotRequired[int | None]


class _Probe(_Result):
    accuracy: Finite


class _Draws(TypedDict):
    mean: Finite


class _FewShot(_Result):
    shots: dict[str, _Draws]


class _Selo(_Result):
    R_su: Finite
    R_as: Finite
    R_da: Finite
    R_mi: Finite


_SCHEMAS: dict[str, Any] = {
    "retrieval": _Retrieval,
    "zeroshot": _ZeroShot,
    "linear_probe": _Probe,
    "knn": _Probe,
    "few_shot": _FewShot,
    "selo": _Selo,
}


def made_by() -> dict[str, str]:
    """Returns the versions of Python and of the packages that a result depends on."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Writes a result as JSON with its checksum, whole or not at all; InputError where that fails."""
    told = json.loads(json.dumps(result, allow_nan=False))
    write_text(path, json.dumps({**told, CHECKSUM: _checksum(told)}, indent=1, ensure_ascii=False) + "\n")


def checked_result(content: dict[str, Any], where: str) -> dict[str, Any]:
    """Returns a result out of a file without its checksum.

    Raises InputError, which begins with `where`, for a field that is missing or of another type, and for a file that
    was changed or damaged after it was written. One without a checksum, as of other tools, can't be told to be damaged.
    """
    result = {key: value for key, value in content.items() if key != CHECKSUM}
    convert(result, where, _Result)
    convert(result, where, _SCHEMAS.get(result["task"], _Result))
    if content.get(CHECKSUM, said := _checksum(result)) != said:
        raise InputError(f"{where}: damaged, or changed by hand: its checksum differs; measure it again")
    return result


def _checksum(result: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(result, sort_keys=True).encode(), digest_size=8).hexdigest()
