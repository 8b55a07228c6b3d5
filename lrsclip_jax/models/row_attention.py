"""Attention of whole rows as one TPU kernel: scores live and die on the chip, for the few hundred tokens of a tower.

A program of the kernel takes one row of the batch with as many heads as fit on the chip. Queries, keys and values come
as dense layers leave them, heads side by side in the last axis: nothing is transposed or padded in memory. Heads
narrower than the 128 lanes of a TPU share them: the other heads' lanes are zero in one factor of each product. The
backward pass computes the weights of attention again, and stores nothing for that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

MOST_TOKENS = 640  # whose scores, a few matrices of fp32, take half of the 16 MiB that a kernel may use of the chip
STORED = "fused_attention"  # the result's name for `jax.checkpoint`

_LANES = 128
_BLOCK = 2**19  # bytes of an array that are on the chip at once, of seven arrays twice
_UNSEEN = -1e30  # finite, so that a row that sees nothing has no NaN


def takes(tokens: int, heads: int, width: int) -> bool:
    """Whether the kernel computes rows of this length, with heads of this width."""
    lanes = min(_LANES, heads * width)
    return tokens <= MOST_TOKENS and lanes % width == 0 and heads * width % lanes == 0


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def row_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array | None, heads: int, causal: bool, interpret: bool
) -> jax.Array:
    """Scaled dot-product attention, softmax in fp32.

    Args:
      q, k, v: [B, N, heads · head width]; `takes` says which.
      segments: int32 [B, N]: a token sees those of its own segment alone; None: all.
      heads: how many.
      causal: a token sees itself and what stands before it.
      interpret: compute it step by step, on any device.

    Returns:
      [B, N, heads · head width] in the dtype of v.
    """
    kernel = functools.partial(_forward_kernel, width=v.shape[-1] // heads, causal=causal)
    return _call(kernel, (q, k, v), segments, 1, interpret)[0]


def _forward(
    q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array | None, heads: int, causal: bool, interpret: bool
) -> tuple:
    out = row_attention(q, k, v, segments, heads, causal, interpret)
    return checkpoint_name(out, STORED), (q, k, v, segments)


def _backward(heads: int, causal: bool, interpret: bool, stored: tuple, gradient: jax.Array) -> tuple:
    q, k, v, segments = stored
    kernel = functools.partial(_backward_kernel, width=v.shape[-1] // heads, causal=causal)
    return *_call(kernel, (q, k, v, gradient), segments, 3, interpret), None


row_attention.defvjp(_forward, _backward)


def _call(
    kernel: Callable, arrays: tuple, segments: jax.Array | None, results: int, interpret: bool
) -> list[jax.Array]:
    """Runs a kernel for each row of [B, N, W] arrays; its results are alike."""
    from jax.experimental import pallas as pl  # half a second, for TPUs alone
    from jax.experimental.pallas import tpu as pltpu

    rows, tokens, width = arrays[0].shape
    lanes = min(_LANES, width)
    groups = width // lanes
    most = max(1, _BLOCK // (tokens * lanes * arrays[0].dtype.itemsize))
    block = lanes * max(size for size in range(1, min(groups, most) + 1) if groups % size == 0)
    row = pl.BlockSpec((1, tokens, block), lambda row, part: (row, 0, part))
    operands, specs = list(arrays), [row] * len(arrays)
    if segments is not None:
        operands.append(segments[:, None])
        specs.append(pl.BlockSpec((1, 1, tokens), lambda row, part: (row, 0, 0)))
    else:
        kernel = functools.partial(_without_segments, kernel, len(arrays))
    return pl.pallas_call(
        kernel,
        grid=(rows, width // block),
        in_specs=specs,
        out_specs=[row] * results,
        out_shape=[jax.ShapeDtypeStruct(arrays[0].shape, arrays[0].dtype)] * results,
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel")),
        interpret=interpret,
    )(*operands)


def _without_segments(kernel: Callable, operands: int, *references: Any) -> None:
    kernel(*references[:operands], None, *references[operands:])


def _forward_kernel(
    q_ref: Any, k_ref: Any, v_ref: Any, segments_ref: Any, out_ref: Any, *, width: int, causal: bool
) -> None:
    seen = _seen(segments_ref, out_ref.shape[1], causal)
    for group, of_head in _groups(out_ref.shape[2], width):
        q, k, v = (ref[0, :, group] for ref in (q_ref, k_ref, v_ref))
        heads = [_product(_weights(of(q), k, seen, width).astype(v.dtype), of(v), 1, 0) for of in of_head]
        out_ref[0, :, group] = functools.reduce(jnp.add, heads).astype(out_ref.dtype)


def _backward_kernel(
    q_ref: Any,
    k_ref: Any,
    v_ref: Any,
    gradient_ref: Any,
    segments_ref: Any,
    of_q_ref: Any,
    of_k_ref: Any,
    of_v_ref: Any,
    *,
    width: int,
    causal: bool,
) -> None:
    seen = _seen(segments_ref, of_q_ref.shape[1], causal)
    for group, of_head in _groups(of_q_ref.shape[2], width):
        q, k, v, gradient = (ref[0, :, group] for ref in (q_ref, k_ref, v_ref, gradient_ref))
        of_q = of_k = of_v = jnp.float32(0)
        for of in of_head:
            weights = _weights(of(q), k, seen, width)
            of_weights = _product(of(gradient), v, 1, 1)
            of_scores = weights * (of_weights - jnp.sum(of_weights * weights, axis=1, keepdims=True))
            of_scores = (of_scores * width**-0.5).astype(q.dtype)
            of_q += _product(of_scores, of(k), 1, 0)
            of_k += _product(of_scores, of(q), 0, 0)
            of_v += _product(weights.astype(v.dtype), of(gradient), 0, 0)
        for ref, value in ((of_q_ref, of_q), (of_k_ref, of_k), (of_v_ref, of_v)):
            ref[0, :, group] = value.astype(ref.dtype)


def _groups(whole: int, width: int) -> Iterator[tuple[slice, list[Callable]]]:
    """Yields slices of lanes that are used at once, and for each head in them a function that leaves only its lanes."""
    lanes = min(_LANES, whole)
    lane = jax.lax.broadcasted_iota(jnp.int32, (1, lanes), 1) // width

    def of(head: int) -> Callable:
        return lambda x: jnp.where(lane == head, x, jnp.zeros_like(x))

    for start in range(0, whole, lanes):
        yield slice(start, start + lanes), [of(head) for head in range(lanes // width)]


def _seen(segments_ref: Any, tokens: int, causal: bool) -> jax.Array | None:
    """Which keys, the columns, each query sees: bool [N, N]; None: all."""
    seen = None
    if causal:
        query, key = (jax.lax.broadcasted_iota(jnp.int32, (tokens, tokens), axis) for axis in (0, 1))
        seen = key <= query
    if segments_ref is not None:
        keys = jnp.broadcast_to(segments_ref[0], (tokens, tokens))
        same = keys == keys.T
        seen = same if seen is None else seen & same
    return seen


def _weights(q: jax.Array, k: jax.Array, seen: jax.Array | None, width: int) -> jax.Array:
    """The weights of attention of one head, fp32 [queries, keys]."""
    scores = _product(q, k, 1, 1) * width**-0.5
    if seen is not None:
        scores = jnp.where(seen, scores, _UNSEEN)
    weights = jnp.exp(scores - jnp.max(scores, axis=1, keepdims=True))
    return weights / jnp.sum(weights, axis=1, keepdims=True)


def _product(x: jax.Array, y: jax.Array, x_axis: int, y_axis: int) -> jax.Array:
    """The product of two matrices over these axes, summed in fp32."""
    return jax.lax.dot_general(x, y, (((x_axis,), (y_axis,)), ((), ())), preferred_element_type=jnp.float32)
