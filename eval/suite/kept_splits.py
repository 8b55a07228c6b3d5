"""The split of each data set, kept in a file: all probes of all models on the same images see the same parts."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from eval.embeddings import EmbeddingSet
from eval.probe.splits import Split, read_split, write_split
from eval.suite.result_files import data_name


def prepare_split(embedding_set: EmbeddingSet, folder: Path, seed: int) -> None:
    """Writes the set's split unless it is there; InputError where the images can't be split or the folder written."""
    path = _path(embedding_set, folder, seed)
    if path.exists():
        return
    from eval.probe.probe_set import split_of_set  # loads scikit-learn: when a probe is to be measured, not before

    write_split(path, split_of_set(embedding_set, seed), _ids(embedding_set))


def kept_split(embedding_set: EmbeddingSet, folder: Path, seed: int) -> Split:
    """Returns the split that `prepare_split` wrote."""
    return read_split(_path(embedding_set, folder, seed), _ids(embedding_set))


def _path(embedding_set: EmbeddingSet, folder: Path, seed: int) -> Path:
    # A model may have been given other images of a data set: those have a split of their own.
    told = sorted((image["id"], image.get("label"), image.get("split")) for image in embedding_set.image_rows)
    images = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:8]
    return folder / f"{data_name(embedding_set)}_{images}_seed{seed}.json"


def _ids(embedding_set: EmbeddingSet) -> list[str]:
    return [image["id"] for image in embedding_set.image_rows]
