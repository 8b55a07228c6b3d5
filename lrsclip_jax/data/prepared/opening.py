"""What names a sequence of records: a prepared set, one of its splits, or the embedded scenes."""

from __future__ import annotations

import os
from collections.abc import Sequence

from eval.file_names import named
from lrsclip_jax.data.bands import band, places
from lrsclip_jax.data.prepared.procedural import SceneRecords
from lrsclip_jax.data.prepared.records import RecordReader, Records
from lrsclip_jax.errors import InputError


def open_records(source: str) -> RecordReader | SceneRecords:
    """Opens "DIR", "DIR:split" (default split: train) or the embedded scenes, "scenes:COUNT[:SEED]"."""
    if source.startswith("scenes:"):
        return SceneRecords.parse(source)
    source = os.path.expanduser(named(source))
    folder, separator, split = source.rpartition(":")
    if not separator or "/" in split:
        folder, split = source, "train"
    return RecordReader(folder, split)


def check_bands(name: str, records: Records, bands: Sequence[str]) -> None:
    """Raises InputError unless the images of a set have these bands; () are red, green and blue of 8 bits."""
    held = records.band_set()
    if held is None and bands:
        raise InputError(f"{name} holds RGB images, and model.image.bands reads {', '.join(bands)}: prepare --bands=…")
    if held is not None and not bands:
        said = ", ".join(held.bands)
        raise InputError(f"{name} holds the bands {said}, and the model reads RGB: set model.image.bands")
    if held is not None:
        places(bands, [band(each) for each in held.bands], name)
