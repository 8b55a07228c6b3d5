"""A run in words: its duration, machine and recipe."""

from __future__ import annotations

import os

from lrsclip_jax.config import ConfigDict


def duration(seconds: float) -> str:
    """Returns seconds as "42 s", "3 min 05 s" or "2 h 07 min"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def machine() -> str:
    """Returns the devices of the run in words, such as "8 × NVIDIA H100" or "1 × cpu (2 cores)"."""
    import jax

    devices = jax.devices()
    cores = f" ({os.cpu_count()} cores)" if devices[0].platform == "cpu" else ""
    return f"{len(devices)} × {devices[0].device_kind}{cores}"


def describe(config: ConfigDict) -> str:
    """Returns the recipe in a few words: model, batch, optimizer, weight of the long text."""
    return (
        f"{config.model.name}, batch {config.batch_size}, {config.optimizer.name} "
        f"{config.optimizer.learning_rate:g}, long weight {config.loss.long_weight}"
    )
