"""A file that grows while a run lasts, local or gs://…."""

from __future__ import annotations

import os

from etils import epath

from eval.whole import write_bytes
from lrsclip_jax.errors import InputError


class GrowingFile:
    """A file to whose end lines or records are added; what was added before is never written again on a disk."""

    def __init__(self, path: epath.Path, content: bytes = b""):
        """Writes the file with `content`, whole or not at all; InputError where that can't be."""
        self._path = path
        self._content = bytearray(content) if "://" in os.fspath(path) else None  # an object store has no append
        write_bytes(path, content)

    def add(self, data: bytes) -> None:
        """Adds to the file's end; InputError where that can't be, such as on a full disk."""
        if self._content is not None:
            self._content += data
            write_bytes(self._path, bytes(self._content))
            return
        try:
            with self._path.open("ab") as file:
                file.write(data)
        except OSError as error:
            raise InputError(
                f"can't write {self._path}: {error.strerror or error}; the same command continues from the newest "
                "checkpoint"
            ) from error
