"""Arrays that wait in host memory from update to update: which ones, and how they reach the device and return.

A plain copy to the device depends on nothing but the array, and the TPU compiler begins it at the start of a step: the
array is then on the device all the time, twice. Here it travels part by part in a loop that cannot begin before the
gradient is known to be finite, so that the device holds no more than what it is about to update.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from lrsclip_jax.sharding import HOST

PyTree = Any

_LEAST = 2**20  # bytes of an array whose room is worth the journey
_MOST_PARTS = 64  # layers, or what an array without layers is cut into
_TILE = {-2: 8, -1: 128}  # of a float32 array on a TPU, whose compiler (libtpu 0.0.52) refuses parts of tiles


def hosted(shapes: PyTree, shardings: PyTree) -> PyTree:
    """Returns the shardings of arrays with those of the large ones in host memory, next to the devices that use them.

    Args:
      shapes: a tree of anything with a shape and a dtype.
      shardings: their NamedSharding on the devices. An array that cannot be cut into parts (`_cut`) stays there.
    """

    def one(leaf: Any, sharding: NamedSharding) -> NamedSharding:
        large = math.prod(leaf.shape) * leaf.dtype.itemsize >= _LEAST
        return sharding.with_memory_kind(HOST) if large and _cut(leaf.shape, sharding) else sharding

    return jax.tree.map(one, shapes, shardings)


def fetched(tree: PyTree, shardings: PyTree, needed: jax.Array) -> PyTree:
    """Returns arrays on the device. Those of host memory are zero, and nothing travels, where they are not `needed`."""

    def one(array: jax.Array, sharding: NamedSharding) -> jax.Array:
        if sharding.memory_kind != HOST:
            return array
        near = sharding.with_memory_kind("device")
        empty = jax.lax.with_sharding_constraint(jnp.zeros(array.shape, array.dtype), near)
        return _moved(array, empty, near, needed)

    return jax.tree.map(one, tree, shardings)


def returned(new: PyTree, old: PyTree, shardings: PyTree, changed: jax.Array) -> PyTree:
    """Returns new arrays. Those of host memory take the place of old ones there; nothing travels if not `changed`."""

    def one(new: jax.Array, old: jax.Array, sharding: NamedSharding) -> jax.Array:
        return _moved(new, old, sharding, changed) if sharding.memory_kind == HOST else new

    return jax.tree.map(one, new, old, shardings)


def copied_to_devices(tree: PyTree) -> PyTree:
    """Returns arrays with copies on the devices of those in host memory, outside of a compiled step."""

    def one(array: jax.Array) -> jax.Array:
        near = array.sharding.with_memory_kind("device")
        return jax.device_put(array, near) if array.sharding.memory_kind == HOST else array

    return jax.tree.map(one, tree)


def _moved(source: jax.Array, target: jax.Array, sharding: NamedSharding, wanted: jax.Array) -> jax.Array:
    """Writes `source` over `target`, an array with this sharding in the other memory, part by part, where `wanted`."""
    axis, size = _cut(source.shape, sharding) or (0, len(source))  # `hosted` takes none that cannot be cut
    count = source.shape[axis] // size

    def move(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        number, target = state
        part = jax.device_put(jax.lax.dynamic_slice_in_dim(source, number * size, size, axis), sharding)
        return number + 1, jax.lax.dynamic_update_slice_in_dim(target, part, number * size, axis)

    first = jnp.where(wanted, 0, count)
    return jax.lax.while_loop(lambda state: state[0] < count, move, (first, target))[1]


def _cut(shape: tuple[int, ...], sharding: NamedSharding) -> tuple[int, int] | None:
    """Returns the dimension along which an array is cut, one that each device has whole, and the length of a part."""
    for axis, (length, local) in enumerate(zip(shape, sharding.shard_shape(shape), strict=True)):
        tile = _TILE.get(axis - len(shape), 1)
        counts = [n for n in range(2, _MOST_PARTS + 1) if length % n == 0 and length // n % tile == 0]
        if length == local and counts:
            return axis, length // max(counts)
    return None
