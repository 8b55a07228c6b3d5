"""Errors that a user can mend, as `eval.errors` has them for the evaluators, and the end that SIGTERM asks for."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

from eval import errors
from eval.errors import InputError, nearest

__all__ = ["InputError", "Terminated", "cli", "nearest"]


class Terminated(Exception):
    """The end of a run that SIGTERM asked for and that has saved. Its text is a single line for a person."""

    def __init__(self, step: int):
        super().__init__(f"stopped by SIGTERM after step {step}, saved; the same command continues")


def cli(main: Callable[[], int | None]) -> None:
    """Runs a program's `main` and exits as `eval.errors.cli` does.

    After SIGTERM the status is 143, as of a process that the signal ended itself.
    """

    def terminable() -> int | None:
        try:
            return main()
        except Terminated as end:
            print(end, file=sys.stderr)
            return 128 + signal.SIGTERM

    errors.cli(terminable)
