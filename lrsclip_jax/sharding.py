"""The device mesh, and where arrays live on it: batches split over `data`, parameters on every device."""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lrsclip_jax.errors import InputError


def data_mesh() -> Mesh:
    """Returns a one-dimensional mesh, axis `data`, over all devices of all processes."""
    # Flax Linen's parameters don't trace under Explicit axes, the default since jax 0.9.
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of parameters and optimizer state: whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharded(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: its leading axis split over `data`."""
    return NamedSharding(mesh, PartitionSpec("data"))


def to_devices(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Joins every host's rows into global arrays, split over the mesh by rows."""
    sharding = batch_sharded(mesh)
    return {key: jax.make_array_from_process_local_data(sharding, rows) for key, rows in batch.items()}


def check_divides(name: str, size: int, mesh: Mesh) -> None:
    """Raises InputError unless `size` rows split evenly over the mesh."""
    if size <= 0 or size % mesh.size:
        raise InputError(f"{name} is {size}: it must be a positive multiple of the {mesh.size} devices")
