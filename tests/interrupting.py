"""Commands that are killed at chosen moments or run on a full disk, and what their folders hold afterwards.

A moment is a file operation of the command below its output folder: one run counts them, and others end by SIGKILL
right before the one that they are told. The processes are forked from a server that has the packages imported, so that
each takes as long as its work.
"""

import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

_PRELOADED = [
    "lrsclip_jax.cli",
    "lrsclip_jax.convert.import_checkpoint",
    "lrsclip_jax.corpus.build",
    "lrsclip_jax.data.mosaic.mosaic_writer",
    "lrsclip_jax.data.prepare.preparation",
    "lrsclip_jax.embed.set_writer",
    "eval.suite.task_runs",
    "eval.suite.suite_page",
    "tensorflow_datasets",
]
_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}  # os.replace is a rename
_WRITING = os.O_WRONLY | os.O_RDWR


class Ended(NamedTuple):
    """How a command ended: its status (-9 when it was killed), what it said, and how many moments it had."""

    status: int
    said: str
    moments: int


def run(arguments: Sequence[str], out: Path, die_at: int | None = None) -> Ended:
    """Runs `lrsclip ARGUMENTS`, which writes below `out`, to its end or to its moment number `die_at`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    log, count = out.with_name(f"{out.name}.log"), context.Value("i", 0)
    process = context.Process(target=_command, args=(list(arguments), str(out), die_at, str(log), count))
    process.start()
    process.join()
    assert process.exitcode is not None
    return Ended(process.exitcode, log.read_text(errors="replace"), count.value)


def _command(arguments: list[str], out: str, die_at: int | None, log: str, count) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1), os.dup2(file, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")

    def hook(event: str, details: tuple) -> None:
        if event not in _EVENTS or not isinstance(details[0], str | os.PathLike | bytes):
            return
        if event == "open" and not details[2] & _WRITING:
            return
        if os.fsdecode(details[0]).startswith(out):
            count.value += 1
            if count.value == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    from lrsclip_jax import cli

    sys.argv[1:] = arguments
    cli.run()


def killed_anywhere(
    arguments: Callable[[Path], list[str]], folder: Path, outcome: Callable[[Path], object], moments: int = 10
) -> int:
    """Kills a command at `moments` of its moments, each time runs it again, and asserts that its outcome is the same.

    Args:
      arguments: of the command, for an output folder.
      folder: for everything that is written.
      outcome: what must be the same of an output folder; it is always at the same path.
      moments: how many of them, spread evenly; the first and the last one are among them.

    Returns:
      How many moments the command has.
    """
    out, count, expected = _undisturbed(arguments, folder, outcome)
    for number in sorted({1 + round(n * (count - 1) / (moments - 1)) for n in range(moments)}):
        shutil.rmtree(out)
        killed = run(arguments(out), out, die_at=number)
        assert killed.status == -signal.SIGKILL, (number, killed)
        _finish(arguments(out), out)
        assert outcome(out) == expected, number
    return count


def on_full_disks(
    arguments: Callable[[Path], list[str]], folder: Path, outcome: Callable[[Path], object], disks: int = 5
) -> int:
    """Runs a command on disks too small for its output, and again when they have grown; its outcome must be the same.

    Returns on how many disks the command failed; 0 where this process may not mount any.
    """
    out, _, expected = _undisturbed(arguments, folder, outcome)
    needed = sum(-(-path.stat().st_size // 4096) * 4096 for path in out.rglob("*") if path.is_file())
    failed = 0
    for number in range(disks):
        size = max(8192, needed * (2 * number + 1) // (2 * disks) // 4096 * 4096)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(out.parent)]
        if subprocess.run(mount, capture_output=True).returncode:
            return 0
        try:
            full = run(arguments(out), folder / "log")
            errors = re.findall("^error: .*", full.said, re.MULTILINE)
            assert "Traceback" not in full.said, full.said
            assert full.status in (0, 2) and bool(errors) == (full.status == 2), full  # evaluate: a line for each task
            failed += full.status == 2
            grow = ["mount", "-o", f"remount,size={4 * needed + (64 << 20)}", str(out.parent)]
            subprocess.run(grow, check=True)
            _finish(arguments(out), folder / "log")
            assert outcome(out) == expected, (number, full.said[-300:])
        finally:
            subprocess.run(["umount", str(out.parent)], check=True)
    return failed


def _undisturbed(
    arguments: Callable[[Path], list[str]], folder: Path, outcome: Callable[[Path], object]
) -> tuple[Path, int, object]:
    out = folder / "place" / "out"
    out.parent.mkdir(parents=True)
    ended = run(arguments(out), out)
    assert ended.status == 0, ended.said
    return out, ended.moments, outcome(out)


def _finish(arguments: list[str], log: Path) -> None:
    """Runs a command again that was stopped; it may find that all was finished."""
    again = run(arguments, log)
    assert "Traceback" not in again.said, again.said
    finished = any(words in again.said for words in ("holds a finished", "already holds", "holds something"))
    assert again.status == 0 or (again.status == 2 and finished), again.said


def contents(folder: Path) -> dict[str, bytes]:
    """Returns the bytes of every file below a folder, by its path."""
    files = (path for path in sorted(folder.rglob("*")) if not path.is_dir())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
