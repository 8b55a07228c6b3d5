"""What a machine is: its devices as JAX sees them, versions, driver and clocks."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata

from lrsclip_jax.errors import InputError

PACKAGES = ("jax", "jaxlib", "jax-cuda13-plugin", "jax-cuda12-plugin", "flax", "optax", "orbax-checkpoint", "torch")
PACKAGES += ("nvidia-cudnn-cu13", "nvidia-cudnn-cu12", "triton")
_PATIENCE = 120  # seconds for JAX to name the devices
# That change what is measured.
SETTINGS = ("XLA_", "JAX_", "CUDA_", "NVIDIA_TF32", "TORCH")


def devices(environment: Mapping[str, str]) -> dict:
    """Returns kind, number, memory and runtime of JAX's devices.

    Another process asks, so that they stay free. Raises InputError where there are none.
    """
    code = (
        "import json, jax; d = jax.devices(); s = d[0].memory_stats() or {};"
        "print(json.dumps({'kind': d[0].device_kind, 'platform': d[0].platform, 'count': len(d),"
        "'memory': s.get('bytes_limit', 0), 'runtime': d[0].client.platform_version.splitlines()[0]}))"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=_PATIENCE, env=environment
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"JAX names no devices within {_PATIENCE} s: is another process on them?") from None
    if done.returncode:
        raise InputError(
            f"JAX finds no devices: {(done.stderr.strip().splitlines() or ['it ended without a word'])[-1]}"
        )
    return json.loads(done.stdout.splitlines()[-1])


def described(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns versions, processor, driver and settings, by name."""
    found = {"Python": platform.python_version(), "cores": str(os.cpu_count())}
    found["memory of the host"] = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    for line in _smi("name,driver_version,vbios_version,clocks.max.sm,clocks.max.mem,power.limit"):
        name, driver, vbios, sm, memory, power = line
        found[f"nvidia-smi, {name}"] = f"driver {driver}, VBIOS {vbios}, up to {sm} and {memory} MHz, {power} W"
    settings = {name: value for name, value in sorted(environment.items()) if name.startswith(SETTINGS)}
    return found | {name: value for name, value in settings.items() if not name.endswith("_DIR")}


def clock() -> list[float]:
    """Returns the clock of each GPU's multiprocessors at this moment, MHz; nothing where nvidia-smi is not there."""
    return [float(sm) for (sm,) in _smi("clocks.sm") if sm.replace(".", "").isdigit()]


def clocks(samples: list[float]) -> str:
    """Returns what samples say: median (least to most)."""
    return f"{statistics.median(samples):.0f} ({min(samples):.0f} to {max(samples):.0f})" if samples else ""


def _smi(query: str) -> list[list[str]]:
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.split(", ") for line in done.stdout.splitlines()] if done.returncode == 0 else []
