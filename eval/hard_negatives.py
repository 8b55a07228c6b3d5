"""Hard negatives: how often a text scores above the same text with one fact changed.

A text and its negative meet the image that they belong to, as in ARO (Yuksekgonul et al., ICLR 2023) and SugarCrepe
(arXiv 2306.14610): a model that does not tell them apart is right in half of the cases.
"""

from __future__ import annotations

import numpy as np

from eval.embeddings import NEGATIVE, EmbeddingSet
from eval.errors import InputError
from eval.scores import pair_scores, read_rows


def negative_accuracy(embedding_set: EmbeddingSet) -> dict:
    """Returns how many hard negatives there are, and in per cent of how many their text scores above them.

    Args:
      embedding_set: holds texts of the kind "negative", each with the long or short text `whole` that it was made of.

    Returns:
      `{"texts", "accuracy"}`; equal scores count as wrong.

    Raises:
      InputError: no negatives, one whose text is not there, or a text without its image.
    """
    wrong = embedding_set.text_rows_of(NEGATIVE)
    if not len(wrong):
        raise InputError(f"{embedding_set.path}: no hard negatives: embed with --negatives")
    rows, name = embedding_set.text_rows, lambda row, field: (rows[row].get(field), rows[row].get("image"))
    row_of = {name(row, "text"): row for kind in ("long", "short") for row in embedding_set.text_rows_of(kind)}
    for row in wrong.tolist():
        if name(row, "whole") not in row_of:
            raise InputError(
                f"{embedding_set.path}/texts.jsonl, line {row + 1}: a negative of {rows[row].get('whole')!r:.60}, "
                "a text that its image does not have: embed again"
            )
    right = np.array([row_of[name(row, "whole")] for row in wrong.tolist()])
    images = read_rows(embedding_set.images, embedding_set.image_of_text(wrong))
    above, below = (pair_scores(images, read_rows(embedding_set.texts, texts)) for texts in (right, wrong))
    return {"texts": len(wrong), "accuracy": 100 * float((above > below).mean())}
