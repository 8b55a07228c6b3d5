"""Exceptions that nobody foresaw: their traceback in a file, and one line that names it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path

from eval.redaction import redacted

ON_STDERR = "LRSCLIP_TRACEBACK"  # set where no file outlives the process, as in a container: the traceback is printed
_ROOT = Path(__file__).parents[1]
_PACKAGES = (_ROOT / "eval", _ROOT / "lrsclip_jax")
_LONGEST = 300


def told(error: BaseException) -> str:
    """Returns a line that says what failed, where, and how to report it; writes the traceback to the file it names.

    The file lies in the system's temporary folder, for its owner to read. Where that can't be written, or the
    environment variable LRSCLIP_TRACEBACK is set, the traceback goes to stderr.
    """
    report = _report(error)
    kept = None if os.environ.get(ON_STDERR) else _written(report)
    if kept is None:
        print(report, file=sys.stderr)
    said = " ".join(redacted(str(error)).split())[:_LONGEST]
    what = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return (
        f"a defect of this program, not of your input: {what} ({_place(error)}); please report it to its authors with "
        f"{kept or 'the traceback above'}"
    )


def _report(error: BaseException) -> str:
    lines = [
        time.strftime("%Y-%m-%d %H:%M:%S %z"),
        " ".join(sys.orig_argv),
        f"Python {platform.python_version()}, {platform.platform()}",
        ", ".join(f"{name} {_version(name)}" for name in ("lrsclip_jax", "jax", "jaxlib", "numpy")),
        "",
        "".join(traceback.format_exception(error)),
    ]
    return redacted("\n".join(lines))


def _written(report: str) -> str | None:
    try:
        descriptor, name = tempfile.mkstemp(prefix="lrsclip-defect-", suffix=".txt")
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(report)
    except OSError:
        return None
    return name


def _place(error: BaseException) -> str:
    """The innermost line of these packages, or of all where none is theirs."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if any(map(Path(frame.filename).is_relative_to, _PACKAGES))]
    if not frames:
        return "place unknown"
    frame = (ours or frames)[-1]
    file = Path(frame.filename)
    return f"{file.relative_to(_ROOT) if ours else file.name}, line {frame.lineno}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
