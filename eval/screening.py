"""How many scores lie above a threshold and how many on it: float32 decides all but the near ones.

A product of unit rows in float32 is off by no more than a known bound, in any order of summation. A score further
than that from its threshold is decided, on the host or on an accelerator; the others are scored exactly, so the
counts are those of exact scores and do not depend on the block, the threads or the device.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from eval.errors import InputError
from eval.scores import SCALE, UNIT_TOLERANCE, block_scores, pair_scores, spans

# One exact pair costs as much as this many scores of a float64 product.
_PAIR_COST = 64
_PAIRS_AT_A_TIME = 1024


class Standing(NamedTuple):
    """How many scores of each row lie above its threshold, and how many are equal to it; int64 [N] each."""

    above: np.ndarray
    equal: np.ndarray

    def add(self, rows: slice, more: Standing) -> None:
        """Adds, in place, what some of the rows scored in another block."""
        self.above[rows] += more.above
        self.equal[rows] += more.equal


class Screened(NamedTuple):
    """The scores of a block by float32: how many are certainly above the thresholds, and a mask of the unsure rest.

    A pair that is `near` (bool [A, B]) either threshold is in neither count.
    """

    above_a: np.ndarray
    above_b: np.ndarray
    near: np.ndarray


Screen = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], Screened]


def standings(
    a: np.ndarray, b: np.ndarray, thresholds_a: np.ndarray, thresholds_b: np.ndarray, screen: Screen
) -> tuple[Standing, Standing]:
    """Returns how the scores of each row of a with all of b stand to its threshold, and the same for b with a.

    Args:
      a, b: unit rows, float32 [A, D] and [B, D].
      thresholds_a, thresholds_b: float64 [A] and [B] in units of `eval.scores`: whole numbers, or inf for a row that
        is not asked about.
      screen: `screen_for` a device.
    """
    above_a, above_b, near = screen(a, b, thresholds_a, thresholds_b)
    if np.count_nonzero(near) * _PAIR_COST > near.size:
        scores = block_scores(a.astype(np.float64), b.astype(np.float64))
        return _standing(scores, thresholds_a[:, None], axis=1), _standing(scores, thresholds_b, axis=0)
    rows, columns = np.divmod(np.flatnonzero(near), len(b))
    scores = np.empty(len(rows))
    for some in spans(len(rows), _PAIRS_AT_A_TIME):
        scores[some] = pair_scores(a[rows[some]].astype(np.float64), b[columns[some]].astype(np.float64))
    near_a = _standing_of_pairs(scores, rows, thresholds_a)
    near_b = _standing_of_pairs(scores, columns, thresholds_b)
    return Standing(above_a + near_a.above, near_a.equal), Standing(above_b + near_b.above, near_b.equal)


def screen_for(device: str | None) -> Screen:
    """Returns what screens on a device: the host for None, JAX's default device for "jax"."""
    if device is None:
        return _on_host
    if device != "jax":
        raise InputError(f"device is {device!r}, known: None for the host, 'jax' for JAX's default device")
    return _on_jax()


def product_error(dimensions: int, products: int = 1) -> float:
    """Returns how far a float32 inner product of unit rows may be from the exact one.

    The bound is gamma_n = n u / (1 - n u) with u = 2^-24 for a sum of n terms in any order (Higham, Accuracy and
    Stability of Numerical Algorithms, 2nd edition, section 3.1), times the lengths of the rows. Two terms more than
    there are hold what underflows and the rounding of the thresholds.

    Args:
      dimensions: D of the rows.
      products: how many products of lower precision stand for one in float32.
    """
    rounding = (dimensions + 2) * products * 2.0**-24
    return (1 + UNIT_TOLERANCE) ** 2 * rounding / (1 - rounding)


def _on_host(a: np.ndarray, b: np.ndarray, thresholds_a: np.ndarray, thresholds_b: np.ndarray) -> Screened:
    error = product_error(a.shape[1])
    return _screened(a @ b.T, _band(thresholds_a, error), _band(thresholds_b, error))


def _on_jax() -> Screen:
    try:
        import jax
    except ImportError:
        raise InputError("device 'jax' needs JAX: `pip install jax`, or leave the device out") from None
    products = 6 if jax.default_backend() == "tpu" else 1  # a TPU puts float32 together from six bfloat16 products

    def screen(a: np.ndarray, b: np.ndarray, thresholds_a: np.ndarray, thresholds_b: np.ndarray) -> Screened:
        error = product_error(a.shape[1], products)
        found = Screened(*map(np.asarray, jax_program()(a, b, _band(thresholds_a, error), _band(thresholds_b, error))))
        return found._replace(near=np.unpackbits(found.near, axis=1, count=len(b)).view(bool))

    return screen


@functools.cache
def jax_program() -> Callable[..., Screened]:
    """Returns the compiled screening of a block; `near` leaves the device as a bit a pair."""
    import jax
    import jax.numpy as jnp

    @jax.jit
    def program(a, b, band_a, band_b):
        # By default JAX multiplies in TF32 or bfloat16 on accelerators, far outside the bound.
        scores = jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
        found = _screened(scores, band_a, band_b)
        return found._replace(near=jnp.packbits(found.near, axis=1))

    return program


def _screened(scores, band_a, band_b) -> Screened:
    """Screens scores of either array library; a band is the lowest and the highest score that is near a threshold."""
    over_a, over_b = scores > band_a[1][:, None], scores > band_b[1]
    near = ((scores >= band_a[0][:, None]) ^ over_a) | ((scores >= band_b[0]) ^ over_b)
    return Screened((over_a & ~near).sum(1, dtype=np.int32), (over_b & ~near).sum(0, dtype=np.int32), near)


def _band(thresholds: np.ndarray, error: float) -> tuple[np.ndarray, np.ndarray]:
    """Float32 [N] twice, rounded outwards; half a unit is what rounds to the threshold itself."""
    low = ((thresholds - 0.5) / SCALE - error).astype(np.float32)
    high = ((thresholds + 0.5) / SCALE + error).astype(np.float32)
    return np.nextafter(low, np.float32(-np.inf)), np.nextafter(high, np.float32(np.inf))


def _standing(scores: np.ndarray, thresholds: np.ndarray, axis: int) -> Standing:
    return Standing(np.count_nonzero(scores > thresholds, axis=axis), np.count_nonzero(scores == thresholds, axis=axis))


def _standing_of_pairs(scores: np.ndarray, of: np.ndarray, thresholds: np.ndarray) -> Standing:
    above, equal = scores > thresholds[of], scores == thresholds[of]
    return Standing(*(np.bincount(of[mask], minlength=len(thresholds)) for mask in (above, equal)))
