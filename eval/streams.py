"""Standard input, output and error as they may be: closed, full, without a reader, and in another encoding."""

from __future__ import annotations

import io
import os
import sys
from typing import Any, TextIO

from eval.errors import InputError

READER_GONE = 141  # 128 + SIGPIPE, the status of other programs there


def open_streams() -> None:
    """Replaces sys.stdout and sys.stderr, where they are the process's own.

    Characters that the encoding lacks become "?" in the output, and escapes in messages. A reader of the output who
    has gone ends the program (SystemExit with status 141). An output that is full or closed raises InputError. Messages
    that can't be written are lost without a word.
    """
    _fill_gaps()
    for name, raw, errors in (
        ("stdout", _Output(1, "w", closefd=False), "replace"),
        ("stderr", _Messages(2, "w", closefd=False), "backslashreplace"),
    ):
        before = getattr(sys, name)
        if before is getattr(sys, f"__{name}__") and not _is_ours(before):
            after = _text(raw, before, errors)
            setattr(sys, name, after)
            setattr(sys, f"__{name}__", after)


class _Output(io.FileIO):
    def write(self, data: Any) -> Any:
        try:
            return super().write(data)
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())  # for what is left in the buffer
            if isinstance(error, BrokenPipeError):
                raise SystemExit(READER_GONE) from None
            reason = f"can't write to the standard output: {error.strerror}; what was finished is kept"
            raise InputError(reason) from None


class _Messages(io.FileIO):
    def write(self, data: Any) -> Any:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _fill_gaps() -> None:
    """Opens what was closed: the next file that the program opens would take its number, and hold messages."""
    for descriptor, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, mode)  # an output that is read-only refuses what is written
            if opened == descriptor:
                os.set_inheritable(descriptor, True)
            else:
                os.dup2(opened, descriptor)
                os.close(opened)


def _is_ours(stream: TextIO | None) -> bool:
    binary = getattr(stream, "buffer", None)
    return isinstance(getattr(binary, "raw", binary), _Output | _Messages)


def _text(raw: io.FileIO, before: Any, errors: str) -> io.TextIOWrapper:
    """As Python opens the streams, but for what happens to characters that the encoding lacks."""
    direct = getattr(before, "write_through", False)  # python -u
    buffer: Any = raw if direct else io.BufferedWriter(raw)
    encoding = getattr(before, "encoding", None)
    lines = getattr(before, "line_buffering", False) or raw.isatty()
    return io.TextIOWrapper(buffer, encoding, errors, line_buffering=lines, write_through=direct)
