"""The start of a run: its machine, where its time goes, and the cache of compiled programs that shortens it."""

from __future__ import annotations

import os
import time


class Laps:
    """Where the time of a start goes: each `end(name)` closes a lap that began when the last one ended."""

    def __init__(self, begun: float):
        self._last = begun
        self._seconds: dict[str, float] = {}

    def end(self, name: str) -> None:
        """Ends a lap; laps of the same name add up."""
        now = time.perf_counter()
        self._seconds[name] = self._seconds.get(name, 0.0) + now - self._last
        self._last = now

    def line(self) -> str:
        """Returns "imports 5.1 s, data 0.2 s, …; 12.3 s in all"."""
        laps = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self._seconds.items())
        return f"{laps}; {sum(self._seconds.values()):.1f} s in all"


def cache_compiled_programs(folder: str | None) -> None:
    """Keeps compiled programs in `folder`, where the next start finds them; JAX_COMPILATION_CACHE_DIR comes first."""
    import jax

    # JAX adds its options while it is imported.
    if folder and not jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser(folder))
        # By default only what takes a second to compile is kept; a start compiles dozens of smaller programs.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def machine() -> str:
    """Returns the devices of the run in words, such as "8 × NVIDIA H100" or "1 × cpu (2 cores)"."""
    import jax

    devices = jax.devices()
    cores = f" ({os.cpu_count()} cores)" if devices[0].platform == "cpu" else ""
    return f"{len(devices)} × {devices[0].device_kind}{cores}"
