"""Errors that a user can mend: one line that says what was wrong, where, and what to do."""

from __future__ import annotations

import difflib
import errno
import sys
from collections.abc import Callable, Iterable

# Reasons for which a disk refuses to be written.
_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


class InputError(ValueError):
    """Bad input of any kind: a file, a record, a key, a flag. Its text is a single line for a person."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns ", did you mean 'x'?" for the known name closest to `name`, or "" when none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f", did you mean '{close[0]}'?" if close else ""


def cli(main: Callable[[], int | None]) -> None:
    """Runs a program's `main` and exits: status 2 and one line for bad input or a refusing disk, 130 when interrupted.

    Any other exception is a defect of the program and keeps its traceback.
    """
    try:
        status = main() or 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        print(f"error: {error.filename or 'writing'}: {error.strerror}; what was finished is kept", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)
