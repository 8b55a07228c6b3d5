"""Files for TensorBoard, written by the thread that has the metrics: where the disk is full, that is one error.

tensorboardX's own writer has threads, each of which prints a traceback of its own.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Mapping

from etils import epath
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import Summary, scalar

from lrsclip_jax.run.growing_file import GrowingFile


class EventFile:
    """An event file of a run; TensorBoard shows all that lie in one folder as one run."""

    def __init__(self, folder: epath.Path, first_step: int):
        """Begins a file in `folder`; what others there say of `first_step` and later is hidden from now on."""
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
        begin = Event(wall_time=time.time(), step=first_step, file_version="brain.Event:2")
        started = Event(wall_time=time.time(), step=first_step, session_log=SessionLog(status=SessionLog.START))
        self._file = GrowingFile(folder / name, _record(begin) + _record(started))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds the values of a step; InputError where that can't be."""
        summary = Summary(value=[scalar(name, value).value[0] for name, value in values.items()])
        self._file.add(_record(Event(wall_time=time.time(), step=step, summary=summary)))

    def close(self) -> None:
        """Does nothing: what was written is on the disk."""


def _record(event: Event) -> bytes:
    """A TFRecord: length, its masked CRC-32C, the data, its masked CRC-32C."""
    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    return b"".join((length, struct.pack("<I", masked_crc32c(length)), data, struct.pack("<I", masked_crc32c(data))))
