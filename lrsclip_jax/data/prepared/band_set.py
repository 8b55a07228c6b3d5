"""What a prepared set says of the bands of its images: their names, and mean and spread of each in every split.

It lies in the set's folder as bands.json; a set of RGB images has none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np

from eval.reading import Finite, read_json
from eval.whole import write_text
from lrsclip_jax.data.bands import band, places
from lrsclip_jax.errors import InputError

FILE = "bands.json"
Sums = Sequence[Sequence[float]]  # of each band: how many values, their sum, the sum of their squares


class Spread(TypedDict):
    """Of the valid pixels of each band: how many, their mean, their standard deviation."""

    pixels: list[int]
    mean: list[Finite]
    std: list[Finite]


class BandSet(NamedTuple):
    """The bands that the images of a split have, in order, and their spread."""

    bands: tuple[str, ...]
    spread: Spread


def sums_of(values: np.ma.MaskedArray) -> list[list[float]]:
    """Returns the sums of an image [B, H, W]; masked, NaN and infinite values are left out."""
    found = []
    for plane in values:
        valid = np.ma.compressed(plane).astype(np.float64)
        valid = valid[np.isfinite(valid)]
        found.append([float(len(valid)), float(valid.sum()), float((valid * valid).sum())])
    return found


def added(first: Sums, second: Sums) -> list[list[float]]:
    """Returns the sums of both; [] is of nothing."""
    if not first or not second:
        return [list(each) for each in first or second]
    return np.add(first, second).tolist()


def write_band_set(folder: Path, bands: Sequence[str], sums: Mapping[str, Sums]) -> None:
    """Writes bands.json out of the sums of each split."""
    splits = {split: _spread(np.asarray(of, np.float64)) for split, of in sums.items() if of}
    write_text(folder / FILE, json.dumps({"bands": list(bands), "splits": splits}) + "\n")


def read_band_set(folder: Path, split: str) -> BandSet | None:
    """Returns what a set's bands.json says of a split, None for a set of RGB images; InputError where it is damaged."""
    path = folder / FILE
    if not path.exists():
        return None
    found: _File = read_json(path, _File)
    spread = found["splits"].get(split)
    if spread is None or {len(spread[name]) for name in ("pixels", "mean", "std")} != {len(found["bands"])}:  # type: ignore[literal-required]
        raise InputError(f"{path}: {split} lacks numbers for each of the bands: prepare the set again")
    return BandSet(tuple(found["bands"]), spread)


def mean_and_std(sets: Iterable[tuple[str, BandSet]], wanted: Sequence[str]) -> tuple[list[float], list[float]]:
    """Returns mean and standard deviation of bands over all pixels of sets, each with its name.

    InputError where a set lacks a band, or a band has no valid pixel or one value alone.
    """
    sums: list[list[float]] = []
    for name, found in sets:
        numbers = places(wanted, [band(each) for each in found.bands], name)
        sums = added(sums, [_sums(found.spread, number) for number in numbers])
    spread = _spread(np.asarray(sums))
    for each, std in zip(wanted, spread["std"], strict=True):
        if not std > 0:
            raise InputError(f"{name}: its band {each} has one value alone, or none: set model.band_mean and band_std")
    return spread["mean"], spread["std"]


class _File(TypedDict):
    bands: list[str]
    splits: dict[str, Spread]


def _spread(sums: np.ndarray) -> Spread:
    count, total, squares = sums.T
    mean = total / np.maximum(count, 1)
    variance = np.maximum(squares / np.maximum(count, 1) - mean**2, 0)
    return {"pixels": count.astype(int).tolist(), "mean": mean.tolist(), "std": np.sqrt(variance).tolist()}


def _sums(spread: Spread, number: int) -> list[float]:
    count, mean, std = spread["pixels"][number], spread["mean"][number], spread["std"][number]
    return [count, count * mean, count * (std**2 + mean**2)]
