"""Devices to compile for, by name: TPU slices that need not be here, host CPU devices, GPUs of this machine.

`prepare` must run before JAX is imported: the environment says which platform JAX starts and where libtpu looks.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
from dataclasses import dataclass
from typing import Any

from lrsclip_jax.errors import InputError, nearest


@dataclass(frozen=True)
class _Generation:
    """How Google Cloud names slices: dimensions of the torus, prefix of accelerator types, cores a chip."""

    dimensions: int
    accelerator: str
    cores: int
    options: tuple[tuple[str, str], ...] = ()


_GENERATIONS = {
    # A program sees two cores as one device, JAX's default for a v4.
    "v4": _Generation(3, "v4", 2, (("chip_config_name", "megacore"),)),
    "v5e": _Generation(2, "v5litepod", 1),
    "v5p": _Generation(3, "v5p", 2),
    "v6e": _Generation(2, "v6e", 1),
}
_MOST_DEVICES = 1024  # of a host: XLA starts a thread for each CPU device
_EXAMPLES = "v5e:16x16, v5p:4x4x4, v4:2x2x4, v6e:8x8, cpu:8 or gpu"


@dataclass(frozen=True)
class Topology:
    """A parsed `--topology`: the platform, the TPU's generation, and the extent in chips; () means all devices."""

    name: str
    platform: str
    generation: str
    extent: tuple[int, ...]

    @property
    def chips(self) -> int:
        return math.prod(self.extent)

    @property
    def accelerator_type(self) -> str:
        """Google Cloud's name of the slice: v5litepod-256, v5p-128 (which counts cores)."""
        generation = _GENERATIONS[self.generation]
        return f"{generation.accelerator}-{self.chips * generation.cores}"


def parse(name: str) -> Topology:
    """Returns the topology that a name such as "v5e:16x16", "cpu:8", "gpu" or "gpu:1" stands for."""
    kind, _, extent = name.partition(":")
    if kind in ("cpu", "gpu"):
        if extent and not (re.fullmatch(r"[1-9][0-9]{0,3}", extent) and int(extent) <= _MOST_DEVICES):
            raise InputError(f"--topology={name}: write {kind} or {kind}:N with N from 1 to {_MOST_DEVICES:,} devices")
        sizes = (int(extent),) if extent else (1,) if kind == "cpu" else ()
        return Topology(name, kind, "", sizes)
    if kind not in _GENERATIONS:
        known = (*_GENERATIONS, "cpu", "gpu")
        raise InputError(f"--topology={name}: unknown kind {kind!r}{nearest(kind, known)}; write {_EXAMPLES}")
    dimensions = _GENERATIONS[kind].dimensions
    if not re.fullmatch("x".join(["[1-9][0-9]*"] * dimensions), extent):
        shape = "x".join("ABC"[:dimensions])
        raise InputError(f"--topology={name}: a {kind} slice has {dimensions} dimensions, write {kind}:{shape}")
    return Topology(name, "tpu", kind, tuple(map(int, extent.split("x"))))


def prepare(topology: Topology) -> None:
    """Sets the environment in which JAX must start. Raises InputError if libtpu is needed and not installed."""
    if topology.platform == "gpu":
        return
    os.environ["JAX_PLATFORMS"] = "cpu"
    if topology.platform == "cpu":
        flags = re.sub(r"--xla_force_host_platform_device_count=\d+", "", os.environ.get("XLA_FLAGS", ""))
        os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={topology.chips}".strip()
        return
    if not importlib.util.find_spec("libtpu"):
        raise InputError(
            f"--topology={topology.name}: the compiler for TPUs is missing; pip install 'lrsclip_jax[tpu]', "
            "which needs no TPU"
        )
    os.environ |= {
        "TPU_ACCELERATOR_TYPE": topology.accelerator_type,
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_SKIP_MDS_QUERY": "1",  # the metadata server that only a TPU VM has
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # no chip is opened, so other programs keep theirs
        "TPU_MIN_LOG_LEVEL": "3",
    }


def devices(topology: Topology) -> list[Any]:
    """Returns the devices (jax.Device), after `prepare`. Those of a TPU slice can be compiled for, not computed on."""
    import jax

    if topology.platform == "tpu":
        from jax.experimental import topologies

        # A host has four chips, 2 × 2 × 1; a smaller slice takes some of them.
        host = [min(2, side) for side in topology.extent[:2]] + [1]
        options = {**dict(_GENERATIONS[topology.generation].options), "chips_per_host_bounds": host}
        try:
            return list(topologies.get_topology_desc(topology.name, "tpu", **options).devices)
        except jax.errors.JaxRuntimeError as error:
            raise InputError(f"--topology={topology.name}: libtpu says {str(error).splitlines()[0]}") from None
    try:
        found = jax.devices(topology.platform)
    except RuntimeError:
        raise InputError(f"--topology={topology.name}: JAX finds no {topology.platform.upper()} here") from None
    if len(found) < topology.chips and topology.extent:
        raise InputError(f"--topology={topology.name}: there are {len(found)} here")
    return found[: topology.chips] if topology.extent else found
