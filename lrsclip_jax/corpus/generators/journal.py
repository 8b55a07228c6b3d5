"""The journal: every answer on disk, so that no question is asked twice."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

from eval.reading import convert
from eval.seals import seal_bytes, unseal
from lrsclip_jax.corpus.generators.protocol import Answer, Request, Server
from lrsclip_jax.errors import InputError

_SYNC_SECONDS = 1.0  # what a power failure may cost; a killed process loses nothing that was added
_OF_ANSWER = [field.name for field in fields(Answer)]
# A kill leaves no such end: the checksum is whole, and another byte is there than the line end.
_DAMAGED_END = re.compile(rb'"crc32": "[0-9a-f]{8}"\}[^\n]\Z')


@dataclass(frozen=True, kw_only=True)
class _Line(Answer):
    """A line of the file: an answer, and the question that it belongs to."""

    key: str
    fingerprint: str
    model: str
    reason: str | None


def fingerprint(request: Request, server: Server) -> str:
    """Returns 32 hex digits of what an answer depends on: key, texts, image path and size, model and settings.

    Address, rate and number of requests in flight are not among them: the same model may move.
    """
    fit = asdict(server.fit) if request.image is not None else None
    parts = [request.key, request.system, request.prompt, request.image, fit, server.settings()]
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def read(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """Yields the lines of a journal, one at a time: `key`, `fingerprint`, `model`, what `Answer` has, and `reason`.

    `reason` is why the answer was rejected, or None. A torn last line is left out. Raises InputError naming a line that
    is none or is damaged, and where there is no journal.
    """
    try:
        with open(path, "rb") as file:
            for number, (_, line) in enumerate(_whole_lines(file), 1):
                yield _row(line, f"{path}, line {number}")
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from None


class Journal:
    """An append-only file of JSON lines, an answer each with its checksum, open for one process at a time.

    For each answer that it finds it holds about 200 bytes; texts stay on disk. A last line that a kill tore is dropped.
    Raises InputError naming another line that is none or is damaged, and where the file can't be opened or another
    process has it open.
    """

    def __init__(self, path: str | os.PathLike):
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+b")
            self._reader = open(path, "rb")
        except OSError as error:
            raise InputError(f"{path}: can't be opened ({error.strerror})") from None
        self._added, self._synced = False, time.monotonic()
        try:
            _lock(self._file, path)
            self._starts, end = _index(self._reader, path)
        except BaseException:
            self._close()
            raise
        self._file.truncate(end)

    def answers(self, digest: str) -> list[Answer]:
        """Returns the answers, first to last, that the file had for a fingerprint when it was opened."""
        found = []
        for start in self._starts.get(bytes.fromhex(digest), ()):
            self._reader.seek(start)
            row = _row(self._reader.readline(), f"{self._file.name}, byte {start:,}")
            found.append(Answer(**{name: row[name] for name in _OF_ANSWER}))
        return found

    def add(self, request: Request, digest: str, model: str, answer: Answer, reason: str | None) -> None:
        """Appends an answer. From here on it outlives the process, and a second later a power failure."""
        row = {"key": request.key, "fingerprint": digest, "model": model, **asdict(answer), "reason": reason}
        # Half a surrogate pair, which JSON can spell and UTF-8 can't, stays JSON's escape.
        self._file.write(seal_bytes(json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace")) + b"\n")
        self._file.flush()
        self._added = True
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            self._sync()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if self._added:
            self._sync()
        self._close()

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._added, self._synced = False, time.monotonic()

    def _close(self) -> None:
        self._reader.close()
        self._file.close()


def _index(file: BinaryIO, path: str | os.PathLike) -> tuple[dict[bytes, tuple[int, ...]], int]:
    """Where the lines of each fingerprint start, and where the last whole line ends."""
    starts: dict[bytes, tuple[int, ...]] = {}
    end = 0
    for number, (start, line) in enumerate(_whole_lines(file), 1):
        digest = bytes.fromhex(_row(line, f"{path}, line {number}")["fingerprint"])
        starts[digest] = (*starts.get(digest, ()), start)
        end = start + len(line)
    return starts, end


def _whole_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    start = 0
    for line in file:
        if line.endswith(b"\n") or _DAMAGED_END.search(line):
            yield start, line
        start += len(line)


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        # Not by parse_json: a text may hold half a surrogate pair.
        row: dict[str, Any] = json.loads(unseal(line, where))
        convert(row, where, _Line)
        bytes.fromhex(row["fingerprint"])
    except (ValueError, RecursionError) as error:  # InputError is a ValueError
        why = str(error).removeprefix(f"{where}: ") if isinstance(error, InputError) else "not JSON, or nested too deep"
        raise InputError(
            f"{where}: no answer of a journal ({why}); without that line its question is asked again"
        ) from None
    return row


def _lock(file: BinaryIO, path: str | os.PathLike) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"{path}: another process is writing this journal; wait for it, or give another") from None
    except OSError:
        pass  # some network file systems have no locks
