"""How much memory there is: what a file claims is compared with it before memory is asked for."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from eval.errors import InputError

# Where Linux keeps the limit of a container: cgroups of version 2 and of version 1.
_CONTAINER = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def limit() -> int:
    """Returns the bytes that this process may use: the machine's memory, or less by ulimit or its container."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with contextlib.suppress(ImportError):  # Windows
        import resource

        soft = (resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
        limits += [size for size in soft if size != resource.RLIM_INFINITY]
    for path in _CONTAINER:
        with contextlib.suppress(OSError, ValueError):  # no such file; "max"
            limits.append(int(path.read_text()))
    return min(limits)


def check(size: int, what: str) -> None:
    """Raises InputError where `what` takes more bytes, `size`, than this process may use."""
    if size > (most := limit()):
        raise InputError(f"{what} takes {size / 1e9:,.1f} GB of memory, there are {most / 1e9:,.1f} GB")
