"""Results as JSON files, with the versions of the packages that made them, and sealed, so that damage shows."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from eval.file_names import all_spelled
from eval.leaks import NearPair
from eval.reading import Finite, convert
from eval.seals import seal
from eval.whole import write_text

PACKAGES = ("lrsclip_jax", "numpy", "scipy", "scikit-learn", "opencv-python-headless", "faiss-cpu")


class _Result(TypedDict):
    task: str
    model: str
    dataset: str
    split: NotRequired[str | None]
    features: NotRequired[str | None]
    protocol: NotRequired[str | None]
    version: NotRequired[str | None]
    benchmark: NotRequired[str | None]


class _Cleaned(TypedDict):
    left_out: int
    images: NotRequired[int]
    near: NotRequired[list[NearPair]]


class _Retrieval(_Result):
    text_to_image: dict[str, Finite]
    image_to_text: dict[str, Finite]
    mean_recall: Finite
    kind: NotRequired[str | None]
    texts: NotRequired[int | None]
    image_queries: NotRequired[int | None]
    images: NotRequired[int | None]
    cleaned: NotRequired[_Cleaned]


class _ZeroShot(_Result):
    accuracy: Finite
    per_template: NotRequired[dict[str, Finite]]
    templates: NotRequired[list[str]]
    images: NotRequired[int | None]
    classes: NotRequired[list[str]]
    cleaned: NotRequired[_Cleaned]


class _Parts(TypedDict, total=False):
    test: int
    rule: str | None


class _Probed(_Result):
    parts: NotRequired[_Parts | None]
    estimator: NotRequired[str | None]
    draws: NotRequired[int]


class _Probe(_Probed):
    accuracy: Finite


class _Draws(TypedDict):
    mean: Finite


class _WeightedProbe(_Probe):
    accuracy_weighted: Finite


class _FewShot(_Probed):
    shots: dict[str, _Draws]


class _Selo(_Result):
    R_su: Finite
    R_as: Finite
    R_da: Finite
    R_mi: Finite
    queries: NotRequired[list[Any]]
    scenes: NotRequired[int]
    crops: NotRequired[str | None]
    sides: NotRequired[list[int] | None]


class _Segmentation(_Result):
    mIoU: Finite
    iou: NotRequired[dict[str, Finite]]


_SCHEMAS: dict[str, Any] = {
    "retrieval": _Retrieval,
    "zeroshot": _ZeroShot,
    "linear_probe": _Probe,
    "knn": _Probe,
    "knn by itra": _WeightedProbe,
    "few_shot": _FewShot,
    "selo": _Selo,
    "segmentation": _Segmentation,
}


def made_by() -> dict[str, str]:
    """Returns the versions of Python and of the packages that a result depends on."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Writes a result as JSON with a seal, whole or not at all; InputError where that fails."""
    write_text(path, seal(json.dumps(all_spelled(dict(result)), indent=1, ensure_ascii=False, allow_nan=False)) + "\n")


def checked_result(content: dict[str, Any], where: str) -> dict[str, Any]:
    """Returns a result as it is; InputError, which begins with `where`, for a missing field or one of another type."""
    convert(content, where, _Result)
    task, protocol = content["task"], content.get("protocol")
    convert(content, where, _SCHEMAS.get(f"{task} by {protocol}") or _SCHEMAS.get(task, _Result))
    return content
