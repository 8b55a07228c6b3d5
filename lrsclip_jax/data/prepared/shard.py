"""One ArrayRecord file, read at random by any number of threads."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from array_record.python.array_record_module import ArrayRecordReader

from lrsclip_jax.errors import InputError

_OTHER_FILES = 512  # libraries, sockets, checkpoints


class Shard:
    """The encoded records of one file by index; threads may share it, and it can be pickled.

    `ArrayRecordDataSource` shares the records of a call among threads of its own, which costs more than it gains, and
    has nothing to say of files that are missing or torn. A read takes 2 µs longer for every 1,000 records of the file.
    """

    def __init__(self, path: Path):
        """Raises InputError where the file is missing or torn."""
        if not path.exists():
            raise InputError(f"{path} is missing: prepare the set again")
        self.path, self._reader = path, _open(path)
        if not self._reader.ok():
            try:
                self._reader.close()  # says what is wrong
            except RuntimeError as error:
                raise InputError(f"{path} is torn ({str(error).split(';')[0]}): prepare the set again") from None

    def __len__(self) -> int:
        return self._reader.num_records()

    def __getitem__(self, index: int) -> bytes:
        """Raises IndexError where there is none, and InputError where it can't be read."""
        try:
            # A list of indices is read without the GIL; seek() and read() take half as long, but hold it.
            return self._reader.read([index])[0]
        except RuntimeError as error:
            raise InputError(f"{self.path}, record {index}: torn ({error}); prepare the set again") from None

    def __getstate__(self) -> Path:
        return self.path

    def __setstate__(self, path: Path) -> None:
        self.path, self._reader = path, _open(path)


def allow_open_files(count: int) -> None:
    """Lets this process hold `count` more files open; InputError where the system doesn't allow it.

    Shards stay open. A set of ten million records has more of them than the 1,024 files that Linux allows at first.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + _OTHER_FILES
    if resource.RLIM_INFINITY not in (soft, hard) and hard < needed:
        raise InputError(f"{count} shards stay open, and the limit is {hard} files: raise it (ulimit -Hn {needed})")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _open(path: Path) -> ArrayRecordReader:
    return ArrayRecordReader(os.fsencode(path), options="readahead_buffer_size:0,max_parallelism:1")
