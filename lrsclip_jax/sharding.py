"""The device mesh, and where arrays live on it.

The mesh has three axes. A batch is split by rows over `data` and `fsdp` together; parameters and optimizer state are
split over `fsdp` and `tensor`, and whole along `data`. An axis of size 1 does nothing, so data parallelism alone is
fsdp = tensor = 1. Rules on the path of a parameter say which of its dimensions an axis splits.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from lrsclip_jax import parameter_rules as path_rules
from lrsclip_jax.errors import InputError
from lrsclip_jax.parameter_rules import path_of

PyTree = Any

AXES = ("data", "fsdp", "tensor")
BATCH = ("data", "fsdp")
HOST = "pinned_host"  # the memory of the machine, where copies to the device can read it directly

# The axis of each dimension; the layers of a tower are stacked on dimension 0. Tensor parallelism splits heads and
# the hidden units of the MLP, so that a block needs one sum over devices after `out` and one after `fc2`. Parameters
# that no rule names (norms, biases, position tables) are small and whole everywhere.
_RULES = (
    (".*/blocks/attention/qkv/kernel", (None, "fsdp", None, "tensor", None)),
    (".*/blocks/attention/qkv/bias", (None, None, "tensor", None)),
    (".*/blocks/attention/out/kernel", (None, "tensor", None, "fsdp")),
    (".*/blocks/mlp/(fc1|gate)/kernel", (None, "fsdp", "tensor")),
    (".*/blocks/mlp/(fc1|gate)/bias", (None, "tensor")),
    (".*/blocks/mlp/fc2/kernel", (None, "tensor", "fsdp")),
    (".*/head/qkv/kernel", ("fsdp", None, "tensor", None)),
    (".*/head/qkv/bias", (None, "tensor", None)),
    (".*/head/out/kernel", ("tensor", None, "fsdp")),
    (".*/head/mlp/fc1/kernel", ("fsdp", "tensor")),
    (".*/head/mlp/fc1/bias", ("tensor",)),
    (".*/head/mlp/fc2/kernel", ("tensor", "fsdp")),
    (".*/head/(query|key|value)/kernel", ("fsdp", "tensor")),
    (".*/head/(query|key|value)/bias", ("tensor",)),
    (r".*/(patch_embedding|conv\d|downsample)/kernel", (None, None, None, "fsdp")),
    (".*/token_embedding", (None, "fsdp")),
    (".*/(pooler|projection)/kernel", ("fsdp", None)),
    (".*", ()),
)


def make_mesh(config: ConfigDict, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns the mesh of `config.mesh` over `devices`, by default all devices of all processes.

    Raises InputError if the axes don't multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    inner = config.fsdp * config.tensor
    sizes = (config.data or len(devices) // max(inner, 1), config.fsdp, config.tensor)
    if min(sizes) < 1 or np.prod(sizes) != len(devices):
        axes = " × ".join(f"{name}={getattr(config, name)}" for name in AXES)
        raise InputError(
            f"mesh: {axes} does not cover the {len(devices)} devices; the product must be {len(devices)}, "
            "and data=0 takes what the others leave"
        )
    # A side of a TPU's torus may serve two axes (jax.make_mesh would refuse). Auto, for Flax Linen's parameters don't
    # trace under Explicit axes, the default since jax 0.9.
    grid = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * 3)


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of arrays that are whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharded(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a batch: its leading axis is split over `data` and `fsdp`."""
    return NamedSharding(mesh, PartitionSpec(BATCH))


def host_sharded(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of microbatches [parts, rows, …] in host memory, next to the devices that will take them."""
    return NamedSharding(mesh, PartitionSpec(None, BATCH), memory_kind=HOST)


def batch_shards(mesh: Mesh) -> int:
    """Returns the number of parts into which a batch is split."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def check_divides(name: str, size: int, mesh: Mesh, microbatches: int = 1) -> None:
    """Raises InputError unless `size` rows split evenly over the mesh, and there into microbatches."""
    shards = batch_shards(mesh)
    if size <= 0 or size % shards:
        raise InputError(
            f"{name} is {size}: it must be a positive multiple of the {shards} parts that data={mesh.shape['data']} "
            f"× fsdp={mesh.shape['fsdp']} devices make of it"
        )
    if microbatches < 1 or size // shards % microbatches:
        raise InputError(
            f"train.microbatches is {microbatches}: it must divide the {size // shards} rows of {name}={size} "
            f"that each of {shards} devices holds"
        )


def parameter_shardings(shapes: PyTree, mesh: Mesh, rules: Sequence[tuple[str, Sequence[str | None]]] = ()) -> PyTree:
    """Gives each parameter its sharding.

    Args:
      shapes: nested dict of parameters, or of anything with their shapes.
      mesh: from `make_mesh`.
      rules: `config.mesh.rules`, pairs (pattern, axis or None of each dimension); they go before this module's own.

    Returns:
      A tree like `shapes` of NamedSharding. An `fsdp` of this module's rules that does not divide its dimension is
      left out: that parameter is whole.

    Raises:
      InputError: a rule that decides nothing, names an unknown axis or too many dimensions; another axis that does
        not divide its dimension.
    """
    asked = path_rules.match(rules, shapes, where="mesh.rules")

    def sharding(key_path: tuple, axes: Sequence[str | None] | None, leaf: Any) -> NamedSharding:
        path = path_of(key_path)
        if axes is None:
            axes = next(axes for pattern, axes in _RULES if re.fullmatch(pattern, path))
            axes = [
                None if axis == "fsdp" and size % mesh.shape[axis] else axis
                for axis, size in zip(axes, leaf.shape, strict=False)
            ]
        _check_axes(path, axes, leaf.shape, mesh)
        return NamedSharding(mesh, PartitionSpec(*axes))

    return jax.tree.map_with_path(sharding, asked, shapes, is_leaf=lambda node: node is None or isinstance(node, tuple))


def like_parameters(tree: PyTree, shardings: PyTree, mesh: Mesh) -> PyTree:
    """Gives each leaf of `tree`, an optimizer state, the sharding of the parameter whose path its own path ends in.

    Counts and other leaves that belong to no parameter are whole everywhere.
    """
    by_path = {path_of(path): sharding for path, sharding in jax.tree.leaves_with_path(shardings)}

    def sharding(key_path: tuple, leaf: Any) -> NamedSharding:
        parts = path_of(key_path).split("/")
        tails = ("/".join(parts[start:]) for start in range(len(parts)))
        return next((by_path[tail] for tail in tails if tail in by_path and leaf.ndim), replicated(mesh))

    return jax.tree.map_with_path(sharding, tree)


def on_mesh(mesh: Mesh, function: Callable) -> Callable:
    """Returns `function` with `mesh` as the mesh of every `constrain` that it calls."""

    @functools.wraps(function)
    def traced(*arguments: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*arguments)

    return traced


def constrain(x: jax.Array, *axes: str | tuple[str, ...] | None) -> jax.Array:
    """Tells the compiler how `x` is split: the axis, or axes, of each dimension. Outside `on_mesh` it does nothing.

    Without this the compiler may drop the batch's split in a large model in favour of the parameters' one, and then
    holds the activations of the whole batch on every device.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*axes))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def gathered(weight: jax.Array, axes: Sequence[str | None] = ()) -> jax.Array:
    """Makes a weight whole along `fsdp`, on the mesh of `on_mesh`; `axes` are those that still split its dimensions.

    The compiler sums its gradient straight into the parameter's own split. The gradient of a plain constraint would
    first be whole on every device.
    """
    return constrain(weight, *axes)


gathered.defvjp(lambda weight, axes: (constrain(weight, *axes), None), lambda axes, _, gradient: (gradient,))


def local_rows(size: int, mesh: Mesh) -> np.ndarray:
    """Returns the rows of a batch of `size` that the devices of this process hold: int64, in order."""
    slices = batch_sharded(mesh).addressable_devices_indices_map((size,)).values()
    return np.unique(np.concatenate([np.arange(size)[index] for index in slices]))


def to_devices(
    batch: dict[str, np.ndarray], mesh: Mesh, size: int | None = None, *, offloaded: int = 0
) -> dict[str, jax.Array]:
    """Joins every process's rows, those of `local_rows`, into global arrays, split over the mesh.

    A global batch has `size` pairs; with one process that may be left out. Arrays of another number of rows, such as
    those of packed texts, belong to the same processes in the same parts. With `offloaded`, a number of microbatches,
    the images become "image_words" in host memory (`words`).
    """
    pairs = len(next(batch[key] for key in ("image", "image_span", *batch) if key in batch))
    size, sharding = pairs if size is None else size, batch_sharded(mesh)

    def rows_of(values: np.ndarray, whole: int) -> Callable[[slice], np.ndarray]:
        rows = local_rows(whole, mesh)

        def part(index: slice) -> np.ndarray:
            first, last = np.searchsorted(rows, index.indices(whole)[:2])
            return values[first:last]

        return part

    def array(values: np.ndarray) -> jax.Array:
        whole = len(values) * size // pairs
        part = rows_of(values, whole)
        # JAX says that an index may be None; no sharding of its own gives one.
        return jax.make_array_from_callback(
            (whole, *values.shape[1:]),
            sharding,
            lambda index: part(index[0]),  # type: ignore[index]
        )

    def in_host_memory(values: np.ndarray) -> jax.Array:
        part = rows_of(values, size)
        shape = (offloaded, size // offloaded, values[0].nbytes // 4)

        def of_device(index: tuple[slice, ...]) -> np.ndarray:
            # Each microbatch has equally many rows of every device, so that no row has to move.
            start, stop, _ = index[1].indices(shape[1])
            return words(part(slice(start * offloaded, stop * offloaded)), offloaded)

        return jax.make_array_from_callback(shape, host_sharded(mesh), of_device)  # type: ignore[arg-type]

    if not offloaded:
        return {key: array(values) for key, values in batch.items()}
    rest = {key: array(values) for key, values in batch.items() if key != "image"}
    return rest | {"image_words": in_host_memory(batch["image"])}


def words(images: np.ndarray, parts: int) -> np.ndarray:
    """Returns images [B, S, S, C], uint8 or float32, as uint32 [parts, B / parts, words], without a copy.

    XLA (jax 0.10.2) copies all of an array of bytes to the device where it slices one that lies in host memory.
    """
    return np.ascontiguousarray(images).reshape(parts, len(images) // parts, -1).view("<u4")


def _check_axes(path: str, axes: Sequence[str | None], shape: tuple[int, ...], mesh: Mesh) -> None:
    if len(axes) > len(shape):
        raise InputError(f"mesh.rules: {path} has {len(shape)} dimensions, the rule names {len(axes)}")
    for axis, size in zip(axes, shape, strict=False):
        if axis is None:
            continue
        if axis not in AXES:
            raise InputError(f"mesh.rules: {path}: {axis!r} is no axis of the mesh, {', '.join(AXES)}")
        if size % mesh.shape[axis]:
            raise InputError(f"mesh.{axis}={mesh.shape[axis]} does not divide the {size} of {path} {list(shape)}")
