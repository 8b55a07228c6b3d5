"""Values of any kind to 8 bits: each band from its own percentiles, the same for every reader."""

from __future__ import annotations

import numpy as np

from lrsclip_jax.errors import InputError

STRETCH = (2.0, 98.0)  # percentiles that become 0 and 255
_ROWS = 1 << 22  # pixels that are float64 at a time


def limits(band: np.ndarray, stretch: tuple[float, float], name: str) -> tuple[float, float]:
    """Returns the percentiles `stretch` of a band of real values; masked, NaN and infinite pixels are left out.

    They are those of `np.percentile` on float64, from a copy in the band's own type.

    Raises:
      InputError: no pixel is valid.
    """
    valid = np.ma.compressed(band)
    if valid.dtype.kind == "f":
        valid = valid[np.isfinite(valid)]
    elif np.may_share_memory(valid, band):
        valid = valid.copy()
    if not len(valid):
        raise InputError(f"{name}: a band without a single valid pixel")
    places = [percentile / 100 * (len(valid) - 1) for percentile in stretch]
    below = [min(int(place), len(valid) - 1) for place in places]
    above = [min(row + 1, len(valid) - 1) for row in below]
    valid.partition(sorted({*below, *above}))
    low, high = (_between(valid[b], valid[a], place - b) for b, a, place in zip(below, above, places, strict=True))
    return low, high


def stretched(band: np.ndarray, low: float, high: float) -> np.ndarray:
    """Returns a band of real values as uint8: `low` and less is 0, `high` and more 255, linear and rounded between.

    Where both are equal, what lies above them is 255. Masked, NaN and infinite pixels are 0.
    """
    out = np.zeros(band.shape, np.uint8)
    step = max(1, _ROWS // max(1, band.shape[1]))
    for start in range(0, len(band), step):
        rows = slice(start, start + step)
        part = band[rows]
        values = np.ma.getdata(part).astype(np.float64)
        shares = _shares(values, low, high)
        shares[np.ma.getmaskarray(part) | ~np.isfinite(values)] = 0
        out[rows] = np.rint(shares * 255)
    return out


def unstretched(values: np.ndarray) -> np.ndarray:
    """Returns real values as float32, with 0 in place of those that are masked, NaN or infinite."""
    filled = np.ma.filled(values, 0).astype(np.float32)
    filled[~np.isfinite(filled)] = 0
    return filled


def holds_data(values: np.ndarray) -> np.ndarray:
    """Returns where one of the bands [B, H, W] is neither masked, NaN nor infinite: bool [H, W]."""
    return (~np.ma.getmaskarray(values) & np.isfinite(np.ma.getdata(values))).any(axis=0)


def _shares(values: np.ndarray, low: float, high: float) -> np.ndarray:
    if low == high:
        return (values > high).astype(np.float64)
    if not np.isfinite(high - low):  # both ends of float64
        values, low, high = values / 4, low / 4, high / 4
    with np.errstate(over="ignore", invalid="ignore"):  # where the limits almost coincide; NaN and infinity
        return np.clip((values - low) / (high - low), 0, 1)


def _between(below: float, above: float, share: float) -> float:
    """NumPy's interpolation, to the last bit."""
    a, b = float(below), float(above)
    if not np.isfinite(b - a):
        return a * (1 - share) + b * share
    return b - (b - a) * (1 - share) if share >= 0.5 else a + (b - a) * share
