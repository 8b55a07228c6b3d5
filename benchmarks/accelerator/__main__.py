"""Measures everything that an accelerator is wanted for: `python -m benchmarks.accelerator --minutes=8 --out=DIR`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.accelerator import machine
from benchmarks.accelerator.page import Outcome, page
from benchmarks.accelerator.parts import PARTS, shares
from eval import whole
from eval.command import command_line, number, path
from lrsclip_jax.errors import InputError, cli, nearest

_DESCRIPTION = """\
Runs the parts below in order of worth, each in a process of its own and within its share of the time; what one part
saves, the next ones have. DIR/table.md and DIR/PART.json are written again with every figure, so an end at any
moment loses only the rest. DIR/PART.log has what a part said.

It needs jax, flax, optax, orbax-checkpoint, numpy, ml_collections and, for the comparison, torch. A part that needs
more is skipped by name where that is missing.
"""
_EPILOG = "parts:\n" + "\n".join(f"  {name:10} {part.title}" for name, part in PARTS.items())
_LEAST = 5.0  # seconds: less than that no part makes use of
_LOOK = 0.5  # seconds between two looks at a part


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the parts; returns 1 if one failed."""
    parser = command_line("python -m benchmarks.accelerator", _DESCRIPTION, _EPILOG, usage="--out=DIR [options]")
    parser.add_argument("--out", required=True, type=path, metavar="DIR", help="a new or empty folder")
    parser.add_argument("--minutes", type=number(0.1, 600), default=8.0, help="in all; %(default)g")
    parser.add_argument("--only", type=_parts, default=list(PARTS), metavar="PART,PART", help="these parts")
    parser.add_argument("--rehearse", action="store_true", help="tiny models on 8 CPU devices")
    options = parser.parse_args(arguments)
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise InputError(f"--out={options.out} is not empty: give a new folder")
    options.out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as cache:
        environment = _environment(Path(cache), options.rehearse)
        run = Run(options, environment, sys.argv[1:] if arguments is None else arguments)
        signal.signal(signal.SIGTERM, _terminated)
        return run.to(end)


def _parts(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        close = nearest(unknown[0], PARTS)
        raise argparse.ArgumentTypeError(f"there is no part {unknown[0]!r}{close}; there are {', '.join(PARTS)}")
    return [name for name in PARTS if name in names]


def _environment(cache: Path, rehearse: bool) -> dict[str, str]:
    """Returns the environment of the parts; what is set already stays."""
    found = {
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9",  # as launch/gpus.sh has it
        # Parts that need the same program compile it once; no program is there from an earlier command.
        "JAX_COMPILATION_CACHE_DIR": str(cache / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "torch"),
    } | os.environ
    if rehearse:
        found["JAX_PLATFORMS"] = "cpu"
        found["XLA_FLAGS"] = f"{found.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
    return found


def _terminated(*_: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


class Run:
    """A measurement under way: its outcomes so far, which `_write` puts on disk."""

    def __init__(self, options: argparse.Namespace, environment: Mapping[str, str], arguments: Sequence[str]):
        self._out: Path = options.out
        self._command = " ".join(["python", "-m", "benchmarks.accelerator", *arguments])
        self._environment = environment
        self._device = machine.devices(self._environment)
        if self._device["platform"] == "cpu" and not options.rehearse:
            raise InputError(
                "JAX sees no accelerator: install jax[cuda13] or jax[tpu], or try the command by --rehearse"
            )
        self._about = machine.described(self._environment)
        self._outcomes = {name: Outcome() for name in options.only}
        self._settings = json.dumps(
            {"memory": self._device["memory"], "out": str(options.out.resolve()), "rehearsal": options.rehearse}
        )

    def to(self, end: float) -> int:
        """Runs the parts until `end`, of the monotonic clock; returns 1 if one failed."""
        names = list(self._outcomes)
        self._write()
        for index, name in enumerate(names):
            if (left := end - time.monotonic()) < _LEAST:
                break
            self._measure(name, shares(names[index:], left))
            outcome = self._outcomes[name]
            print(
                f"{index + 1}/{len(names)} {name}: {outcome.status}, {outcome.seconds:.0f} s; "
                f"{max(0, end - time.monotonic()):.0f} s left",
                file=sys.stderr,
                flush=True,
            )
        print(f"{self._out / 'table.md'}")
        return int(any(outcome.status.startswith("failed") for outcome in self._outcomes.values()))

    def _measure(self, name: str, seconds: float) -> None:
        """Runs a part for at most `seconds`; at any end, what it found by then is written."""
        outcome = self._outcomes[name]
        outcome.status, begun, samples = "cut short", time.monotonic(), []
        log = self._out / f"{name}.log"
        with log.open("wb") as said:
            child = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.accelerator.child", name, self._settings],
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
            try:
                while child.poll() is None and time.monotonic() - begun < seconds:
                    samples += machine.clock()
                    if (rows := self._found(name).get("rows", [])) != outcome.rows:
                        outcome.rows = rows
                        self._write()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        child.wait(_LOOK)
                outcome.status = _ended(child.poll(), seconds, log)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                found = self._found(name)
                outcome.rows = found.get("rows", [])
                outcome.status = f"skipped: {found['skipped']}" if "skipped" in found else outcome.status
                outcome.seconds, outcome.clocks = time.monotonic() - begun, machine.clocks(samples)
                self._write()

    def _found(self, name: str) -> dict[str, Any]:
        file = self._out / f"{name}.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def _write(self) -> None:
        whole.write_text(self._out / "table.md", page(self._device, self._about, self._outcomes, self._command))


def _ended(status: int | None, seconds: float, log: Path) -> str:
    if status == 0:
        return "done"
    if status is None:
        return f"cut at its {seconds:.0f} s"
    how = f"failed with signal {-status}" if status < 0 else f"failed with status {status}"
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"{how}: {lines[-1][:200]}" if lines else how


if __name__ == "__main__":
    cli(main)
