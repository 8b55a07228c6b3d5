"""Unit rows in 8 bits a number: what the exact engine looks through first, and how far from the rows it can be.

A number x of a dimension stands as a whole number c between -127 and 127, x ≈ centre + step · c; a byte holds c + 128.
The codes of a large index lie in `cache/` within its folder. They are made again when images.npy has changed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from eval.errors import InputError
from eval.reading import read_array, read_json
from eval.scores import UNIT_TOLERANCE, spans
from eval.whole import whole, write_text

CACHE = "cache"
SMALL = 2**24  # bytes of codes that are made in memory each time, in a fraction of a second
_ROWS = 4096
_VERSION = 1
# Float32 rounds an embedding's difference to its code by less than this, and the square of its length by less than a
# part in ten thousand: numbers are below 2, dimensions below 1,600.
_ROUNDING, _PART = 2.0**-18, 1e-4


class Bounds(msgspec.Struct):
    """What turns codes back into numbers, and how far those are from the rows.

    Attributes:
      version: of this layout.
      centre, step: of each dimension, float32 values [D].
      longest: the greatest length of a row of whole numbers c.
      residual: the greatest length of a row less what its codes stand for.
      steps: the greatest length of that difference measured in steps.
    """

    version: int
    centre: list[float]
    step: list[float]
    longest: float
    residual: float
    steps: float


@dataclass(frozen=True)
class Codes:
    """The codes, uint8 [N, D], in memory or memory-mapped, and their bounds."""

    codes: np.ndarray = field(repr=False)
    bounds: Bounds = field(repr=False)

    def question(self, query: np.ndarray) -> tuple[np.ndarray, float, float, float]:
        """Returns what whole numbers to multiply the codes with, and what the products say.

        For every row x and its codes c, with S the whole number q · c:  |query · x - (offset + unit · S)| ≤ error.

        Two roundings are bounded by the inequality of Cauchy and Schwarz: of the query, by the greatest length of
        codes, and of the rows, by their residual, measured in numbers or in steps, whichever is less.

        Args:
          query: unit, float32 [D].

        Returns:
          q, float32 [D] of whole numbers between -127 and 127; offset; unit; error.
        """
        bounds = self.bounds
        exact = query.astype(np.float64)
        scaled = exact * np.asarray(bounds.step)
        unit = float(np.abs(scaled).max()) / 127 or 1.0
        whole_numbers = np.rint(scaled / unit)
        of_query = np.linalg.norm(scaled - unit * whole_numbers) * bounds.longest
        of_rows = min(np.linalg.norm(exact) * bounds.residual, np.linalg.norm(scaled) * bounds.steps)
        # In float32 a sum of whole numbers is exact up to 2^24, and beyond that off by this.
        of_sum = unit * len(query) * 2.0**-24 * np.linalg.norm(whole_numbers) * bounds.longest
        error = float(of_query + of_rows + of_sum) * (1 + 1e-9)
        return whole_numbers.astype(np.float32), float(exact @ np.asarray(bounds.centre)), unit, error


def open_codes(rows: np.ndarray, images: Path) -> Codes:
    """Returns the codes of an index's rows, float32 [N, D] of `images`, from its cache or made here.

    They are kept where they are large and the folder can be written; otherwise they are made in memory.

    Raises:
      InputError: a row is not finite, or not of unit length.
    """
    if rows.size < SMALL:
        return _made(rows, np.empty(rows.shape, np.uint8))
    state = images.stat()
    named = hashlib.blake2b(repr((_VERSION, state.st_size, state.st_mtime_ns)).encode(), digest_size=8).hexdigest()
    folder = images.parent / CACHE
    path, about = folder / f"codes-{named}.npy", folder / f"codes-{named}.json"
    if (found := _kept(path, about, rows)) is not None:
        return found
    try:
        folder.mkdir(exist_ok=True)
        with whole(path) as partial:
            codes = np.lib.format.open_memmap(partial, "w+", np.uint8, rows.shape)
            bounds = _made(rows, codes).bounds
            codes.flush()
            del codes
        write_text(about, msgspec.json.encode(bounds).decode())
    except (OSError, InputError):
        return _made(rows, np.empty(rows.shape, np.uint8))  # a folder that can't be written, or rows that are refused
    for other in folder.glob("codes-*"):
        if other.stem != path.stem:
            other.unlink(missing_ok=True)
    return Codes(read_array(path, np.uint8, 2), bounds)


def _kept(path: Path, about: Path, rows: np.ndarray) -> Codes | None:
    if not (path.exists() and about.exists()):
        return None
    try:
        found = Codes(read_array(path, np.uint8, 2), read_json(about, Bounds))
    except InputError:
        return None
    fits = found.codes.shape == rows.shape and len(found.bounds.centre) == len(found.bounds.step) == rows.shape[1]
    return found if fits and found.bounds.version == _VERSION else None


def _made(rows: np.ndarray, codes: np.ndarray) -> Codes:
    """Fills `codes` and returns them with their bounds."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        extremes = list(_each(threads, lambda span: _extremes(rows[span], span.start), len(rows)))
        low = np.min([low for low, _ in extremes], axis=0)
        high = np.max([high for _, high in extremes], axis=0)
        centre = ((low.astype(np.float64) + high) / 2).astype(np.float32)
        step = ((high.astype(np.float64) - low) / 254).astype(np.float32)
        step[step < 1e-12] = 1  # a dimension that never varies, or as good as never

        def fill(span: slice) -> tuple[float, float, float]:
            block = rows[span] - centre
            numbers = np.clip(np.rint(block / step), -127, 127)
            codes[span] = numbers + 128
            block -= numbers * step
            return _longest(numbers), _longest(block), _longest(block / step)

        longest, residual, steps = np.max(list(_each(threads, fill, len(rows))), axis=0).tolist()
    slack = 1 + _PART
    spare = float(np.linalg.norm(_ROUNDING / step.astype(np.float64)))
    bounds = Bounds(
        _VERSION,
        centre.astype(float).tolist(),
        step.astype(float).tolist(),
        longest * slack,
        residual * slack + _ROUNDING,
        min(steps * slack + spare, 1e300),
    )
    return Codes(codes, bounds)


def _each(threads: ThreadPoolExecutor, work, count: int) -> Iterator:
    return threads.map(work, spans(count, _ROWS))


def _extremes(block: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.sqrt(np.einsum("nd,nd->n", block, block))
    wrong = np.flatnonzero(~(np.abs(lengths - 1) <= UNIT_TOLERANCE))
    if len(wrong):
        row, length = start + int(wrong[0]), float(lengths[wrong[0]])
        raise InputError(f"row {row} of images.npy has length {length:.4g} instead of 1: index the archive again")
    return block.min(axis=0), block.max(axis=0)


def _longest(block: np.ndarray) -> float:
    return float(np.sqrt(np.einsum("nd,nd->n", block, block).max()))
