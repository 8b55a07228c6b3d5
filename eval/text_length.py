"""Text length: retrieval against the number of tokens kept (LRSCLIP, Fig. 3), and how long texts are (Fig. 6).

A text cut to n tokens keeps its first n - 1 and the end token, and is padded to the context length like a whole one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from eval.embeddings import EmbeddingSet
from eval.errors import InputError
from eval.retrieval import KS, retrieval_metrics

CONTEXTS = (77, 248)  # of CLIP, and of Long-CLIP and LRSCLIP
BIN = 5
DIRECTIONS = ("text_to_image", "image_to_text")


def length_curve(embedding_set: EmbeddingSet, kind: str = "long", ks: Sequence[int] = KS) -> dict:
    """Returns the recalls of texts that were cut to n tokens, for every n in the set, and those of whole texts.

    Args:
      embedding_set: holds each whole text of the kind once more for every n, with `tokens` = n.
      kind: "long" or "short".
      ks: the K of each R@K.

    Returns:
      `{"kind", "tokens": [n, …], "text_to_image": {"R@1": […], …}, "image_to_text": {…}, "mean_recall": […],
      "whole": the result of retrieval_metrics for whole texts}`, the lists in order of n, recalls in per cent. Where
      the whole texts tell their `length`, `cut` counts those longer than each n: the others are whole at n as well.

    Raises:
      InputError: no whole or no cut texts of the kind, a text that an n lacks or has beyond the whole ones, one
        without its image, or rows that `retrieval_metrics` refuses.
    """
    whole = embedding_set.text_rows_of(kind)
    if not len(whole):
        raise InputError(f"{embedding_set.path}: no whole {kind} texts to compare cut ones with")
    tokens = _tokens(embedding_set, kind)
    rows_at = {n: embedding_set.text_rows_of(kind, n) for n in tokens}
    for n, rows in rows_at.items():
        _check_same_texts(embedding_set, n, rows, whole)

    def metrics(rows: np.ndarray) -> dict:
        owners = embedding_set.image_of_text(rows)
        return retrieval_metrics(embedding_set.images, embedding_set.texts[rows], owners, ks)

    told = any(embedding_set.text_rows[row].get("length") is not None for row in whole)
    lengths = _lengths(embedding_set, whole) if told else None
    points = [metrics(rows) for rows in rows_at.values()]
    return {
        "kind": kind,
        "tokens": tokens,
        **{side: {name: [point[side][name] for point in points] for name in points[0][side]} for side in DIRECTIONS},
        "mean_recall": [point["mean_recall"] for point in points],
        "whole": metrics(whole),
        **({"cut": [int((lengths > n).sum()) for n in tokens]} if lengths is not None else {}),
    }


def length_histogram(embedding_set: EmbeddingSet) -> dict:
    """Returns how many tokens the whole long and short texts have, start and end token included.

    Returns:
      `{"bin": 5, "long": {"counts": […], "texts", "mean", "median", "max", "above": {"77": …, "248": …}}, "short":
      {…}}`; a kind that the set lacks is absent. `counts[i]` is how many texts have 5 i to 5 i + 4 tokens, `above` the
      per cent that are longer than the context of CLIP, and of Long-CLIP and LRSCLIP.

    Raises:
      InputError: neither long nor short texts, or one that does not tell its `length`.
    """
    rows_of = {kind: embedding_set.text_rows_of(kind) for kind in ("long", "short")}
    found = {kind: _summary(_lengths(embedding_set, rows)) for kind, rows in rows_of.items() if len(rows)}
    if not found:
        raise InputError(f"{embedding_set.path}: no long or short texts whose length could be told")
    return {"bin": BIN, **found}


def _tokens(embedding_set: EmbeddingSet, kind: str) -> list[int]:
    """Every n to which the set's texts of a kind were cut, ascending."""
    found = set()
    for text in embedding_set.text_rows:
        if text["kind"] == kind and text.get("tokens") is not None:
            found.add(text["tokens"])
    if not found:
        raise InputError(
            f"{embedding_set.path}: no {kind} texts cut to fewer tokens: embed with --text-lengths=20,77,…"
        )
    return sorted(found)


def _check_same_texts(embedding_set: EmbeddingSet, n: int, rows: np.ndarray, whole: np.ndarray) -> None:
    """Raises InputError unless the texts at n, with their images, are the whole ones in any order."""
    cut, uncut = (
        Counter((embedding_set.text_rows[row]["text"], embedding_set.text_rows[row].get("image")) for row in chosen)
        for chosen in (rows, whole)
    )
    for odd, what in (
        (uncut - cut, f"is not there cut to {n} tokens"),
        (cut - uncut, f"is there cut to {n} tokens only"),
    ):
        if odd:
            text, image = next(iter(odd))
            raise InputError(f"{embedding_set.path}: {text[:60]!r} of image {image!r} {what}: embed the sweep again")


def _lengths(embedding_set: EmbeddingSet, rows: np.ndarray) -> np.ndarray:
    for row in rows:
        if embedding_set.text_rows[row].get("length") is None:
            raise InputError(f"{embedding_set.path}/texts.jsonl, line {row + 1}: no length, other texts tell theirs")
    return np.array([embedding_set.text_rows[row]["length"] for row in rows])


def _summary(lengths: np.ndarray) -> dict:
    return {
        "counts": np.bincount(lengths // BIN).tolist(),
        "texts": len(lengths),
        "mean": float(lengths.mean()),
        "median": float(np.median(lengths)),
        "max": int(lengths.max()),
        "above": {str(context): 100 * float((lengths > context).mean()) for context in CONTEXTS},
    }
