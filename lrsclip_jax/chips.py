"""What the chips can do, by the name that JAX gives them (`device.device_kind`).

Peaks are makers' figures for dense bfloat16 products accumulated in float32, without sparsity.
"""

from __future__ import annotations

from dataclasses import dataclass

from lrsclip_jax.errors import InputError, nearest

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """One device as JAX sees it.

    Attributes:
      name: as people say it, "TPU v5e".
      flops: peak FLOP/s of dense bfloat16 products.
      float32: the same at JAX's highest precision: a TPU takes six bfloat16 passes for it, a GPU its float32 units.
      memory: bytes that a program may take: what the TPU compiler grants (libtpu 0.0.52 names it when a program is
        larger), the whole memory of a GPU.
      bandwidth: bytes/s between chip and memory.
      interconnect: bytes/s that one chip can send to others over all its links; makers often print the sum of
        sending and receiving, which is twice that.
      host: bytes/s from the host's memory to one chip: PCIe in one direction.
      source: where the figures are published.
    """

    name: str
    flops: float
    float32: float
    memory: int
    bandwidth: float
    interconnect: float
    host: float
    source: str


# PCIe of TPUs: "How to Scale Your Model", https://jax-ml.github.io/scaling-book/tpus
_CLOUD = "https://docs.cloud.google.com/tpu/docs/"
_A100 = "https://www.nvidia.com/en-us/data-center/a100/"
_H100 = "https://www.nvidia.com/en-us/data-center/h100/"
_H200 = "https://www.nvidia.com/en-us/data-center/h200/"
# Eight of them have 36 PFLOP/s with sparsity, 600 TFLOP/s of float32, 1,440 GB, 64 TB/s (DGX B200), 14.4 TB/s of links.
_B200 = "https://www.nvidia.com/en-us/data-center/hgx/"
_L40S = "https://www.nvidia.com/en-us/data-center/l40s/"
_L4 = "https://www.nvidia.com/en-us/data-center/l4/"
_A10 = "https://www.nvidia.com/en-us/data-center/products/a10-gpu/"
_GA102 = "https://www.nvidia.com/content/PDF/nvidia-ampere-ga-102-gpu-architecture-whitepaper-v2.1.pdf"
_ADA = "https://images.nvidia.com/aem-dam/Solutions/geforce/ada/nvidia-ada-gpu-architecture.pdf"

_CHIPS = {
    "TPU v4": Chip("TPU v4", 275e12, 275e12 / 6, int(30.75 * GIB), 1.2e12, 300e9, 16e9, _CLOUD + "v4"),
    "TPU v5 lite": Chip("TPU v5e", 197e12, 197e12 / 6, int(15.75 * GIB), 819e9, 200e9, 16e9, _CLOUD + "v5e"),
    "TPU v5": Chip("TPU v5p", 459e12, 459e12 / 6, int(95.73 * GIB), 2.765e12, 600e9, 16e9, _CLOUD + "v5p"),
    "TPU v6 lite": Chip("TPU v6e", 918e12, 918e12 / 6, int(31.24 * GIB), 1.638e12, 400e9, 32e9, _CLOUD + "v6e"),
    "NVIDIA A100-SXM4-40GB": Chip("A100 SXM 40 GB", 312e12, 19.5e12, 40 * GIB, 1.555e12, 300e9, 32e9, _A100),
    "NVIDIA A100-SXM4-80GB": Chip("A100 SXM 80 GB", 312e12, 19.5e12, 80 * GIB, 2.039e12, 300e9, 32e9, _A100),
    "NVIDIA A100-PCIE-40GB": Chip("A100 PCIe 40 GB", 312e12, 19.5e12, 40 * GIB, 1.555e12, 32e9, 32e9, _A100),
    "NVIDIA A100 80GB PCIe": Chip("A100 PCIe 80 GB", 312e12, 19.5e12, 80 * GIB, 1.935e12, 32e9, 32e9, _A100),
    "NVIDIA H100 80GB HBM3": Chip("H100 SXM", 989e12, 67e12, 80 * GIB, 3.35e12, 450e9, 64e9, _H100),
    "NVIDIA H100 PCIe": Chip("H100 PCIe", 756e12, 51e12, 80 * GIB, 2.0e12, 64e9, 64e9, _H100),
    "NVIDIA H200": Chip("H200 SXM", 989e12, 67e12, 140 * GIB, 4.8e12, 450e9, 64e9, _H200),
    "NVIDIA B200": Chip("B200", 2.25e15, 75e12, int(180e9), 8.0e12, 900e9, 64e9, _B200),
    "NVIDIA L40S": Chip("L40S", 362e12, 91.6e12, 48 * GIB, 864e9, 32e9, 32e9, _L40S),
    "NVIDIA L4": Chip("L4", 121e12, 30.3e12, 24 * GIB, 300e9, 32e9, 32e9, _L4),
    "NVIDIA A10": Chip("A10", 125e12, 31.2e12, 24 * GIB, 600e9, 32e9, 32e9, _A10),
    "NVIDIA GeForce RTX 3090": Chip("RTX 3090", 71e12, 35.6e12, 24 * GIB, 936e9, 32e9, 32e9, _GA102),
    "NVIDIA GeForce RTX 4090": Chip("RTX 4090", 165e12, 82.6e12, 24 * GIB, 1.008e12, 32e9, 32e9, _ADA),
}


def find(device_kind: str) -> Chip | None:
    """Returns what is known of a device kind; None for a CPU or another chip, whose peak is not known."""
    return _CHIPS.get(device_kind)


def named(name: str) -> Chip:
    """Returns the chip that people call so, "H100-SXM" or "TPU v5e"; raises InputError for one that is not known."""
    by_name = {chip.name.lower().replace(" ", "-"): chip for chip in _CHIPS.values()}
    wanted = name.lower().replace(" ", "-")
    if wanted not in by_name:
        raise InputError(f"unknown chip {name!r}{nearest(wanted, by_name)}; choose one of {', '.join(by_name)}")
    return by_name[wanted]
