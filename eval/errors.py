"""Errors that a user can mend: one line that says what was wrong, where, and what to do."""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable

from eval import interrupts

BAD_INPUT = 2
DEFECT = 70  # EX_SOFTWARE of sysexits.h
# Reasons of a system that gives no file's name with them. Others without a name come from a mistake of the program.
_REFUSALS = tuple(
    getattr(errno, name)
    for name in (
        "EACCES EAGAIN EDQUOT EFBIG EIO EMFILE ENETDOWN ENETUNREACH ENFILE ENODEV ENOLCK ENOMEM ENOSPC ENXIO EPERM "
        "EREMOTEIO EROFS ESTALE ETIMEDOUT"
    ).split()
    if hasattr(errno, name)
)
_REMEDIES = {
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENOMEM: "less at once needs less memory",
}
_KEPT = "what was finished is kept"
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class InputError(ValueError):
    """Bad input of any kind: a file, a record, a key, a flag. Its text is a single line for a person.

    Notes (`add_note`) are shown before that line: what to do instead, where that takes several lines.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns ", did you mean 'x'?" for the known name closest to `name`, or "" when none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f", did you mean '{close[0]}'?" if close else ""


def cli(main: Callable[[], int | None]) -> None:
    """Runs a program's `main` and exits with the status of `told`, prepared for Ctrl-C and for any terminal."""
    from eval import streams

    try:
        streams.open_streams()  # before any other file takes the number of a closed one
        at_end = interrupts.heed()
        before, threading.excepthook = threading.excepthook, _thread_failed
        status = told(main)
        threading.excepthook = before
        at_end()
    except KeyboardInterrupt:  # outside of `main`
        interrupts.end()
    if interrupts.received():
        os._exit(status)  # threads that still compile would crash while the interpreter is taken down
    sys.exit(status)


def told(main: Callable[[], int | None]) -> int:
    """Runs `main` and returns the exit status; of an error it says one line on stderr.

    Status 2 is bad input, or a system that refuses (a full disk, no memory, no right); 130 an interrupt; 70 an
    exception that nobody foresaw, a defect of the program, whose line names a file with the traceback.
    """
    try:
        return _ended(main)
    except BaseException as error:  # some extensions raise what is no Exception
        lines, status = _outcome(error)
    with contextlib.suppress(Exception, SystemExit):
        sys.stdout.flush()
    if interrupts.received():
        interrupts.say()
    else:
        print("\n".join(lines), file=sys.stderr, flush=True)
    return status


def _ended(main: Callable[[], int | None]) -> int:
    try:
        status = main() or 0
    except SystemExit as end:  # of argparse, or of an output without a reader
        if isinstance(end.code, str):
            raise InputError(end.code) from None
        status = end.code or 0
    if sys.stdout is not None:
        sys.stdout.flush()
    return status


def _outcome(error: BaseException) -> tuple[list[str], int]:
    """The lines to say of an error, and the status to exit with."""
    if isinstance(error, KeyboardInterrupt) or interrupts.received():
        return [interrupts.LINE], interrupts.STATUS
    if isinstance(error, InputError):
        return [*getattr(error, "__notes__", ()), f"error: {_shown(error)}"], BAD_INPUT
    if isinstance(error, MemoryError):
        detail = f" ({_shown(error)})" if str(error) else ""
        return [f"error: not enough memory{detail}: less at once needs less; {_KEPT}"], BAD_INPUT
    if isinstance(error, OSError) and (error.filename is not None or error.errno in _REFUSALS):
        return [f"error: {_refusal(error)}; {_KEPT}"], BAD_INPUT
    from eval import defects

    return [f"error: {defects.told(error)}; {_KEPT}"], DEFECT


def printable(text: str) -> str:
    """Returns a text on one line, with escapes for what moves a terminal's cursor and for bytes that are no text."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _shown(error: BaseException) -> str:
    """The text of an error on one line, without the passwords of the addresses in it."""
    from eval.redaction import redacted

    return printable(redacted(str(error)))


def _thread_failed(details: threading.ExceptHookArgs) -> None:
    """An exception that ends a thread; the program may well do without it."""
    if details.exc_value is not None and not interrupts.received():
        lines, _ = _outcome(details.exc_value)
        print("\n".join(lines), file=sys.stderr, flush=True)


def _refusal(error: OSError) -> str:
    names = [
        printable(os.fsdecode(name)) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)
    ]
    remedy = _REMEDIES.get(error.errno or 0)
    shown = " → ".join(printable(os.fsdecode(name)) for name in names)
    return ": ".join(filter(None, [shown, error.strerror or str(error), remedy]))
