"""Filtering by CLIP score: the cosine of an image and its texts, from an embedding set of the corpus."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator

import numpy as np

from eval.embeddings import EmbeddingSet
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.errors import InputError

_ROWS = 4096  # rows of either side in memory


@functools.lru_cache(1)  # a worker of Ray runs the stage many times
def clip_scores(embeddings: EmbeddingSet) -> np.ndarray:
    """Returns the mean cosine of every image and its own whole texts, long and short, float64 [I]; NaN without a text.

    InputError where the set holds features of the image tower alone, which texts can't be compared with.
    """
    if embeddings.features != "projected":
        raise InputError(f"{embeddings.path}: {embeddings.features} features: CLIP scores need projected ones")
    texts = np.concatenate([embeddings.text_rows_of(kind) for kind in ("long", "short")])
    if not len(texts):
        raise InputError(f"{embeddings.path}: no long or short text in it, nothing to compare the images with")
    images = embeddings.image_of_text(texts)
    sums, counts = np.zeros(len(embeddings.images)), np.bincount(images, minlength=len(embeddings.images))
    for start in range(0, len(texts), _ROWS):
        rows = slice(start, start + _ROWS)
        cosines = np.einsum("nd,nd->n", embeddings.images[images[rows]], embeddings.texts[texts[rows]])
        np.add.at(sums, images[rows], cosines)
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)


def by_clip_score(
    records: Iterable[CorpusRecord],
    embeddings: EmbeddingSet,
    *,
    top: float | None = None,
    least: float | None = None,
) -> Iterator[CorpusRecord | SetAside]:
    """Sets aside records whose score is below `least`, or outside the best `top` of all images of the set.

    The image of a record is the one with its id; a record whose id the set lacks, or holds without a text, is set
    aside. Of scores equal to the last of the best, all stay. Holds 8 bytes an image of the set, and the set's own ids.

    Args:
      records: to be filtered.
      embeddings: `eval.embeddings.open_set` of them.
      top: a share, such as 0.3 (SkyScript's choice), or
      least: a cosine, such as 0.25.
    """
    check_choice(top, least)
    scores = clip_scores(embeddings)
    if least is None:
        scored = scores[~np.isnan(scores)]
        last = len(scored) - max(1, round((top or 1.0) * len(scored)))
        least = np.partition(scored, last)[last]
    return (_scored(record, embeddings, scores, least) for record in records)


def check_choice(top: float | None, least: float | None) -> None:
    """Raises InputError unless one of the two is given, and `top` is a share."""
    if (top is None) == (least is None):
        raise InputError("choose one of a share of the best CLIP scores (top) and a least score (least)")
    if top is not None and not 0 < top <= 1:
        raise InputError(f"the best {top:g} of all CLIP scores: choose a share above 0 and up to 1")


def _scored(
    record: CorpusRecord, embeddings: EmbeddingSet, scores: np.ndarray, least: float
) -> CorpusRecord | SetAside:
    row = embeddings.row_of_id.get(record.id)
    if row is None or np.isnan(scores[row]):
        lacks = "no image of this id" if row is None else "no text of this image"
        return SetAside(record.id, "clip_score", f"{embeddings.path} has {lacks}")
    if scores[row] < least:
        return SetAside(record.id, "clip_score", f"CLIP score {scores[row]:.4f}, {least:.4f} is asked for")
    return record
