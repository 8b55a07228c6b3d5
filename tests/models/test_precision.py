import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrsclip_jax.errors import InputError
from lrsclip_jax.models.precision import dot_general

AXES = (((2, 3), (0, 1)), ((), ()))  # as `out` contracts heads and head width


def rounded(x, axes):
    """What is left of x when its largest value along `axes` is 127, in float64."""
    largest = np.abs(x).max(axis=axes, keepdims=True)
    scale = np.where(largest, largest, 127) / 127
    return np.rint(x / scale) * scale


def test_int8_is_the_product_of_what_is_rounded_by_row_and_column():
    rng = np.random.default_rng(0)
    x, kernel, weights = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(4, 5, 6, 2)), rng.normal(size=(2, 3, 6, 2))
    x[0, 0] = 0

    @jax.jit
    def value_and_gradient(x, kernel):
        out, backward = jax.vjp(lambda x, kernel: dot_general("int8")(x, kernel, AXES), x, kernel)
        return out, *backward(jnp.asarray(weights, jnp.float32))

    found = value_and_gradient(jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32))
    expected = (
        np.tensordot(rounded(x, (2, 3)), rounded(kernel, (0, 1)), 2),
        np.einsum("bnop,hdop->bnhd", rounded(weights, (2, 3)), rounded(kernel, (2, 3))),
        np.einsum("bnhd,bnop->hdop", x, weights),
    )
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    exact = np.tensordot(x, kernel, 2)
    assert 1e-4 < np.linalg.norm(found[0] - exact) / np.linalg.norm(exact) < 0.02


def test_an_unknown_name_is_an_error():
    with pytest.raises(InputError, match="products='int4' is none of float, int8, did you mean 'int8'"):
        dot_general("int4")
