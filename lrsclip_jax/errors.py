"""Errors that a user can mend, as `eval.errors` has them for the evaluators, and the end that a signal asks for."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Callable
from types import ModuleType

from eval import errors
from eval.errors import DEFECT, InputError, nearest

__all__ = ["DEFECT", "InputError", "MissingPackage", "Terminated", "cli", "nearest", "optional", "told"]


class MissingPackage(InputError):
    """A package that only some installations have is needed: no record after this one would fare better."""


def optional(module: str, extra: str) -> ModuleType:
    """Returns a module of an extra of this package; MissingPackage says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        reason = "is missing" if isinstance(error, ModuleNotFoundError) else f"can't be imported ({error})"
        raise MissingPackage(f"{module} {reason}: pip install 'lrsclip_jax[{extra}]'") from None


class Terminated(Exception):
    """The end of a run that SIGTERM or Ctrl-C asked for and that has saved. Its text is a single line for a person."""

    def __init__(self, step: int, asked: signal.Signals = signal.SIGTERM):
        how = "interrupted" if asked is signal.SIGINT else "stopped by SIGTERM"
        super().__init__(f"{how} after step {step}, saved; the same command continues")
        self.status = 128 + asked


def cli(main: Callable[[], int | None]) -> None:
    """Runs a program's `main` and exits as `eval.errors.cli` does, and with the status of `told`."""
    errors.cli(_with_ends(main))


def told(main: Callable[[], int | None]) -> int:
    """Runs `main` and returns the exit status as `eval.errors.told` does.

    After SIGTERM the status is 143, as of a process that the signal ended itself, and after Ctrl-C 130. A device
    without memory is told as a machine without memory is.
    """
    return errors.told(_with_ends(main))


def _with_ends(main: Callable[[], int | None]) -> Callable[[], int | None]:
    def ended() -> int | None:
        try:
            return main()
        except Terminated as end:
            print(end, file=sys.stderr)
            return end.status
        except RuntimeError as error:  # JAX's own error, which is not imported for that
            if type(error).__name__ != "JaxRuntimeError" or not str(error).startswith("RESOURCE_EXHAUSTED"):
                raise
            raise MemoryError(str(error).partition("\n")[0]) from error

    return ended
