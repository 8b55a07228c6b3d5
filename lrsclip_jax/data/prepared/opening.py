"""What names a sequence of records: a prepared set, one of its splits, or the embedded scenes."""

from __future__ import annotations

import os

from eval.file_names import named
from lrsclip_jax.data.prepared.procedural import SceneRecords
from lrsclip_jax.data.prepared.records import RecordReader


def open_records(source: str) -> RecordReader | SceneRecords:
    """Opens "DIR", "DIR:split" (default split: train) or the embedded scenes, "scenes:COUNT[:SEED]"."""
    if source.startswith("scenes:"):
        return SceneRecords.parse(source)
    source = os.path.expanduser(named(source))
    folder, separator, split = source.rpartition(":")
    if not separator or "/" in split:
        folder, split = source, "train"
    return RecordReader(folder, split)
