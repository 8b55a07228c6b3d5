"""Reads the preprocessing of a checkpoint from Hugging Face's preprocessor_config.json, next to the weights."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypedDict

from eval.reading import convert, read_json
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.errors import InputError
from lrsclip_jax.pytorch.families.tower_fields import Deviation, Mean

_STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
_BICUBIC = 3  # Pillow's number
_RESAMPLES: dict[Any, Literal["bicubic", "bilinear"]] = {_BICUBIC: "bicubic", 2: "bilinear"}


def preprocessing(folder: Path, size: int, otherwise: Preprocessing) -> tuple[Preprocessing, str]:
    """Returns the preprocessing of a model with images of `size` pixels, and where it comes from.

    A key that the file leaves out has the value that transformers' CLIPImageProcessor gives it; mean and std must be
    there. Without a file it is the family's, `otherwise`.

    Args:
      folder: of the weights.
      size: of the model's images.
      otherwise: what holds without a file, at any size.

    Raises:
      InputError: a torn file, or one that says anything but: the shorter side to `size`, bicubic, the central square.
    """
    path, values = _values(folder)
    if path is None:
        return replace(otherwise, size=size), "the family's"
    _check_steps(path, values, _STEPS)
    if values.get("resample", _BICUBIC) != _BICUBIC:
        raise InputError(f"{path}: resample is {values['resample']!r:.80}, only {_BICUBIC} (bicubic) is supported")
    _check_size(path, values, "size", size, {"shortest_edge": size})
    _check_size(path, values, "crop_size", size, {"height": size, "width": size})
    # CLIPImageProcessor's crop, PIL's and torchvision's alike, begins at the whole pixel below half the margin.
    return replace(_normalised(path, values, size), crop="center_floor"), path.name


def squashed(folder: Path, size: int, otherwise: Preprocessing) -> tuple[Preprocessing, str]:
    """Returns the preprocessing of a model whose images are resized to `size` × `size` pixels, as `preprocessing` does.

    A key that the file leaves out has the value that transformers' SiglipImageProcessor gives it.

    Raises:
      InputError: a torn file, or one that says anything but: to this size, bicubic or bilinear, without a crop.
    """
    path, values = _values(folder)
    if path is None:
        return replace(otherwise, size=size), "the family's"
    _check_steps(path, values, [step for step in _STEPS if step != "do_center_crop"])
    if values.get("do_center_crop"):
        raise InputError(f"{path}: do_center_crop is {values['do_center_crop']!r:.80}, only false is supported")
    resample = values.get("resample", _BICUBIC)
    if resample not in [*_RESAMPLES]:  # any value of JSON
        raise InputError(f"{path}: resample is {resample!r:.80}, only 2 (bilinear) and 3 (bicubic) are supported")
    _check_size(path, values, "size", size, {"height": size, "width": size})
    found = _normalised(path, {"image_mean": [0.5] * 3, "image_std": [0.5] * 3} | values, size)
    return replace(found, resize="squash", interpolation=_RESAMPLES[resample]), path.name


def normalisation(folder: Path, size: int, otherwise: Preprocessing) -> tuple[Preprocessing, str]:
    """Returns the preprocessing of a tower trained alone: mean and std of the file, if there is one, at `size`.

    How its images were resized was a matter of that training. The rest as `preprocessing`.
    """
    path, values = _values(folder)
    if path is None:
        return replace(otherwise, size=size), "the family's"
    return _normalised(path, values, size), path.name


def _check_steps(path: Path, values: Mapping[str, Any], steps: Sequence[str]) -> None:
    faults = [step for step in steps if values.get(step, True) is not True]
    if faults:
        raise InputError(f"{path}: {faults[0]} is {values[faults[0]]!r:.80}, only true is supported")
    factor = values.get("rescale_factor", 1 / 255)
    if not isinstance(factor, float) or not math.isclose(factor, 1 / 255):
        raise InputError(f"{path}: rescale_factor is {factor!r:.80}, only 1/255 is supported")


def _check_size(path: Path, values: Mapping[str, Any], key: str, size: int, form: Mapping[str, int]) -> None:
    if values.get(key, 224) not in (size, form):
        raise InputError(
            f"{path}: {key} is {json.dumps(values.get(key, 224)):.80}, the model's images have "
            f"{size} pixels: only {json.dumps(form)} is supported"
        )


def _values(folder: Path) -> tuple[Path | None, dict[str, Any]]:
    """The settings and their file; transformers, too, looks first into the processor's file, which is the newer one."""
    path = folder / "processor_config.json"
    if path.exists() and isinstance(values := _object(path).get("image_processor"), dict):
        return path, values
    path = folder / "preprocessor_config.json"
    return (path, _object(path)) if path.exists() else (None, {})


def _object(path: Path) -> dict[str, Any]:
    return read_json(path, dict[str, Any])


class _Normalisation(TypedDict):
    image_mean: tuple[Mean, Mean, Mean]
    image_std: tuple[Deviation, Deviation, Deviation]


def _normalised(path: Path, values: Mapping[str, Any], size: int) -> Preprocessing:
    found: _Normalisation = convert(dict(values), str(path), _Normalisation)
    return Preprocessing(size, found["image_mean"], found["image_std"])
