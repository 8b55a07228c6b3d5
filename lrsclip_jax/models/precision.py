"""Precision of the towers' arithmetic: the dtype, full float32 products, and dense layers in 8-bit integers.

The integers are SwitchBack's (Wortsman et al., arXiv 2304.13013).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lrsclip_jax.errors import InputError, nearest


def compute_dtype(name: Any = "auto", platform: str | None = None) -> jnp.dtype:
    """Returns the dtype that towers compute in.

    Args:
      name: a dtype or its name; "auto" is float32 on a CPU and bfloat16 on accelerators.
      platform: "cpu", "gpu" or "tpu"; None: that of this process.

    Raises:
      InputError: not a floating-point dtype that JAX has.
    """
    if isinstance(name, str) and name == "auto":
        name = "float32" if (platform or jax.default_backend()) == "cpu" else "bfloat16"
    try:
        dtype = jnp.dtype(name)
    except TypeError:
        dtype = None
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise InputError(f"dtype {name!r:.40} is unknown: expected float32, bfloat16 or float16")
    return dtype


def exactly(dtype: Any) -> contextlib.AbstractContextManager[None]:
    """Returns a context in which products of float32 are computed in float32, if `dtype` is float32.

    Accelerators otherwise round the factors, to bfloat16 or TF32.
    """
    return jax.default_matmul_precision("highest" if jnp.dtype(dtype) == jnp.float32 else "default")


def dot_general(name: str) -> Callable | None:
    """Returns the `dot_general` of dense layers that a tower's `products` names; None is flax's own.

    "float": in the tower's dtype. "int8": forward, and backward to the layer's input, each row of activations or of
    their gradient and each column of the kernel is rounded to integers from −127 to 127 by its own largest value; the
    kernel's gradient, a sum over all tokens, stays in the tower's dtype. To `jax.checkpoint` these are no products, so
    remat="dense" stores those alone that have a name, `qkv` and `mlp_hidden`. Raises InputError for another name.
    """
    known = {"float": None, "int8": _int8_dot_general}
    if name not in known:
        raise InputError(f"products={name!r} is none of {', '.join(known)}{nearest(name, known)}")
    return known[name]


def unstored(name: str) -> Callable:
    """Returns the same of a layer whose result remat="dense" does not store, but computes again."""
    return dot_general(name) or _unstored_dot_general


def _unstored_dot_general(x: jax.Array, kernel: jax.Array, dimension_numbers: Any, precision: Any = None) -> jax.Array:
    # A product with a batch dimension, which the policy passes over; of size one, the compiler drops it.
    of_x, of_kernel = ([axis + 1 for axis in axes] for axes in dimension_numbers[0])
    return jax.lax.dot_general(x[None], kernel[None], ((of_x, of_kernel), ((0,), (0,))), precision=precision)[0]


def _int8_dot_general(x: jax.Array, kernel: jax.Array, dimension_numbers: Any, precision: Any = None) -> jax.Array:
    (axes, _), _ = dimension_numbers
    return _product(x, kernel, len(axes))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _product(x: jax.Array, kernel: jax.Array, contracted: int) -> jax.Array:
    """The last `contracted` axes of x [rows…, in…] with the first of a kernel [in…, out…]: [rows…, out…]."""
    inner = range(contracted)
    return _rounded_product(x, tuple(x.ndim - contracted + axis for axis in inner), kernel, tuple(inner))


def _forward(x: jax.Array, kernel: jax.Array, contracted: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _product(x, kernel, contracted), (x, kernel)


def _backward(contracted: int, stored: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple:
    x, kernel = stored
    rows = tuple(range(x.ndim - contracted))
    outer = tuple(range(contracted, kernel.ndim))
    of_x = _rounded_product(gradient, tuple(range(len(rows), gradient.ndim)), kernel, outer)
    return of_x, jax.lax.dot_general(x, gradient, ((rows, rows), ((), ())))


_product.defvjp(_forward, _backward)


def _rounded_product(x: jax.Array, x_axes: tuple[int, ...], kernel: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The product over `x_axes`, the last ones, and `axes` of the kernel, of integers; in the dtype of x."""
    (x_integers, x_scale), (integers, scale) = _rounded(x, x_axes), _rounded(kernel, axes)
    summed = jax.lax.dot_general(
        x_integers, integers, ((x_axes, axes), ((), ())), preferred_element_type=jnp.int32
    ).astype(jnp.float32)
    x_scale = jnp.expand_dims(x_scale, tuple(range(x_scale.ndim, summed.ndim)))
    return (summed * x_scale * scale).astype(x.dtype)


def _rounded(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """x as int8, and what it was divided by along `axes`: fp32, without them."""
    x = x.astype(jnp.float32)
    largest = jnp.max(jnp.abs(x), axis=axes, keepdims=True)
    scale = jnp.where(largest > 0, largest / 127, 1)
    return jnp.round(x / scale).astype(jnp.int8), jnp.squeeze(scale, axes)
