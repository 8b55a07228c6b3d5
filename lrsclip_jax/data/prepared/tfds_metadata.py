"""Metadata by which TFDS reads a prepared set: `features.json` and `dataset_info.json`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from lrsclip_jax.data.prepared.records import KINDS, NAME, NEGATIVE
from lrsclip_jax.data.prepared.shard import Shard
from lrsclip_jax.errors import InputError


def write_metadata(
    folder: str | os.PathLike,
    tokenizers: Iterable[str],
    description: str = "",
    bands: Sequence[str] = (),
    *,
    negatives: bool = False,
) -> None:
    """Describes the shards in `folder` to TFDS; `tokenizers` are the hashes of the token ids in the records.

    Images of `bands` are TIFFs, which TFDS gives as their bytes. `negatives` says whether the records have hard
    negatives.

    Splits and shard lengths are read from the shards themselves. Raises InputError if there is none, or one
    is torn.
    """
    import tensorflow_datasets as tfds

    folder = Path(folder)
    pattern = re.compile(rf"{NAME}-(\w+)\.array_record-\d+-of-\d+")
    shards: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if match := pattern.fullmatch(path.name):
            shards.setdefault(match[1], []).append(path)
    if not shards:
        raise InputError(f"{folder} holds no shards of records")
    splits = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=[len(Shard(path)) for path in paths],
            num_bytes=sum(path.stat().st_size for path in paths),
            filename_template=tfds.core.ShardedFileTemplate(
                data_dir=folder, dataset_name=NAME, split=split, filetype_suffix="array_record"
            ),
        )
        for split, paths in shards.items()
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=tfds_features(tokenizers, bands, negatives=negatives),
        split_infos=splits,
        description=description,
        check_data=False,  # would read through tf.data, with TensorFlow
    )


def tfds_features(tokenizers: Iterable[str], bands: Sequence[str] = (), *, negatives: bool = False):
    """Returns a record's `tfds.features.FeaturesDict`; an absent label or licence is the empty string."""
    import tensorflow_datasets as tfds

    text = tfds.features.Text
    kinds = (*KINDS, NEGATIVE) if negatives else KINDS
    ids = {kind: tfds.features.Sequence(tfds.features.Sequence(np.int32)) for kind in kinds}
    return tfds.features.FeaturesDict(
        {
            "id": text(),
            "source": text(),
            "image": text() if bands else tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "label": text(),
            "licence": text(),
            "tokens": {tokenizer: ids for tokenizer in tokenizers},
        }
        | {kind: tfds.features.Sequence(text()) for kind in kinds}
    )
