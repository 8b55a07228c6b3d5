"""Averages of the weights: exponential moving ones, and schedule-free AdamW's (Defazio et al., arXiv 2405.15682)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

PyTree = Any


def moved(average: PyTree, params: PyTree, decay: float) -> PyTree:
    """Returns decay·average + (1 − decay)·params; what is equal in both, as frozen parameters, stays to the bit."""
    return jax.tree.map(lambda mean, new: mean + (1 - decay) * (new - mean), average, params)


def schedule_free(
    direction: optax.GradientTransformation, learning_rate: optax.Schedule, b1: float, trainable: PyTree
) -> tuple[optax.GradientTransformation, Callable[[PyTree, Any], PyTree]]:
    """Makes an optimizer schedule-free whose parameters are the average x, which is evaluated, saved and exported.

    optax keeps y, where the gradient is taken. Here x is kept and y is computed from it, so that nobody but the step
    has to know of y.

    Args:
        direction: from gradients to updates of z, learning rate included, without momentum.
        learning_rate: of update 0, 1, …; each z counts in the average by its square.
        b1: the share of x in y, above 0.
        trainable: a bool for each parameter; the others have no state.

    Returns:
        The optimizer of x, and the function from (x, its state) to y.
    """
    inner = optax.masked(contrib.schedule_free(direction, lambda count: learning_rate(count - 1), b1), trainable)

    def point(x: PyTree, state: Any) -> PyTree:
        def one(z: Any, x: jax.Array) -> jax.Array:
            return x if isinstance(z, optax.MaskedNode) else x + (1 - b1) * (z - x)  # x to the bit where z is x

        return jax.tree.map(one, state.inner_state.z, x, is_leaf=_is_masked)

    def update(gradients: PyTree, state: Any, x: PyTree = None) -> tuple[PyTree, Any]:
        y = point(x, state)
        moved, state = inner.update(gradients, state, y)
        moved_y = jax.tree.map(
            lambda z, y, u: z if _is_masked(z) else y + u, state.inner_state.z, y, moved, is_leaf=_is_masked
        )
        averaged = contrib.schedule_free_eval_params(state.inner_state, moved_y)
        return jax.tree.map(
            lambda new, x: jnp.zeros_like(x) if _is_masked(new) else new - x, averaged, x, is_leaf=_is_masked
        ), state

    return optax.GradientTransformation(inner.init, update), point


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)
