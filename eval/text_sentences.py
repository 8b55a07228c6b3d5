"""What single sentences do to a text's score: HiMo@K, another order, and no first sentence.

HiMo@K (HiMo-CLIP, AAAI 2026, eval/text_mono/get_himo.py) is the Pearson correlation of the number of sentences kept,
1 to K, with the score of that text and its image, averaged over texts: a longer and still true text should score
higher, 1.0 at best. Where all scores of a text are equal it counts 0, as it does there.

That the first sentence, often a summary, or the order of sentences decides is a shortcut that DeBias-CLIP (arXiv
2602.22419) measures by retrieval with the sentences shuffled, and without the first one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.embeddings import EDITED, EmbeddingSet
from eval.errors import InputError
from eval.retrieval import retrieval_metrics
from eval.scores import read_rows

MOST = 10  # sentences of HiMo@K
EDITS = ("shuffled", "without_first")


def sentence_effects(embedding_set: EmbeddingSet, kind: str = "long") -> dict:
    """Returns HiMo@K, and the recalls of texts in order, shuffled, and without their first sentence.

    Args:
      embedding_set: holds whole texts of the kind and, of the kind "edited" and `of` this one, what `whole` texts
        become: `edit` "first" with the first `sentences` of them, for each number from 1 to that of the text or a
        limit; "shuffled"; "without_first". A text without edits has one sentence, and stays as it is.
      kind: "long" or "short".

    Returns:
      `{"kind", "texts", "several": texts of several sentences, "himo": {"2": …, "10": …}, "himo_texts": {"2": …}: how
      many have K sentences, "himo_own": the mean over texts of several sentences, each up to its own number or
      10, "in_order", "shuffled", "without_first": {"text_to_image": {"R@1": …, …}, "image_to_text": {…},
      "mean_recall"}}`, recalls in per cent. A K that no text reaches is absent.

    Raises:
      InputError: no whole or no edited texts of the kind, an edit of a text that is not there, numbers of sentences
        with a gap, or rows that `retrieval_metrics` refuses.
    """
    whole = embedding_set.text_rows_of(kind)
    if not len(whole):
        raise InputError(f"{embedding_set.path}: no whole {kind} texts to compare edited ones with")
    grown, edited = _edits(embedding_set, kind)
    names = [(embedding_set.text_rows[row]["text"], embedding_set.text_rows[row].get("image")) for row in whole]
    if odd := next((name for name in (*grown, *edited) if name not in set(names)), None):
        raise InputError(
            f"{embedding_set.path}: {odd[0][:60]!r} of image {odd[1]!r} is there edited and not whole: embed again"
        )
    owners = embedding_set.image_of_text(whole)
    curves = [
        _scores(embedding_set, grown[name], owner)
        for name, owner in zip(names, owners.tolist(), strict=True)
        if name in grown
    ]
    recalls = {"in_order": whole} | {
        edit: np.array([edited.get(name, {}).get(edit, row) for name, row in zip(names, whole.tolist(), strict=True)])
        for edit in EDITS
    }
    reached = [k for k in range(2, MOST + 1) if any(len(curve) >= k for curve in curves)]
    return {
        "kind": kind,
        "texts": len(whole),
        "several": len(curves),
        "himo": {str(k): _mean(curves, k) for k in reached},
        "himo_texts": {str(k): sum(len(curve) >= k for curve in curves) for k in reached},
        "himo_own": float(np.mean([rising(curve[:MOST]) for curve in curves])),
        **{name: _recalls(embedding_set, rows, owners) for name, rows in recalls.items()},
    }


def rising(scores: Sequence[float] | np.ndarray) -> float:
    """Returns the Pearson correlation of scores, [K], with 1 … K; 0 where they are all equal."""
    scores = np.asarray(scores, np.float64)
    number = np.arange(1, len(scores) + 1, dtype=np.float64)
    number -= number.mean()
    centred = scores - scores.mean()
    if np.abs(centred).max() < 1e-7:  # texts cut to the context differ by nothing but the order of a sum
        return 0.0
    return float(number @ centred / np.sqrt((number @ number) * (centred @ centred)))


_Name = tuple[str, str | None]


def _edits(embedding_set: EmbeddingSet, kind: str) -> tuple[dict[_Name, dict[int, int]], dict[_Name, dict[str, int]]]:
    """The rows of each text's first sentences, by their number, and of its other edits."""
    grown: dict[_Name, dict[int, int]] = {}
    edited: dict[_Name, dict[str, int]] = {}
    for row, text in enumerate(embedding_set.text_rows):
        if text["kind"] != EDITED or text.get("of") != kind:
            continue
        name, edit, count = (text.get("whole") or "", text.get("image")), text.get("edit"), text.get("sentences")
        if edit == "first" and count:
            grown.setdefault(name, {})[count] = row
        elif edit in EDITS:
            edited.setdefault(name, {})[edit] = row
        else:
            where = f"{embedding_set.path}/texts.jsonl, line {row + 1}"
            raise InputError(f"{where}: edit is {edit!r}: expected 'first' with sentences, {', '.join(EDITS)}")
    if not grown:
        raise InputError(f"{embedding_set.path}: no {kind} texts by sentences: embed with --sentences={MOST}")
    for name, rows in grown.items():
        if sorted(rows) != list(range(1, len(rows) + 1)):
            raise InputError(f"{embedding_set.path}: {name[0][:60]!r} is there with {sorted(rows)} sentences: a gap")
    return grown, edited


def _scores(embedding_set: EmbeddingSet, rows: dict[int, int], owner: int) -> np.ndarray:
    """The scores of a text's first 1, 2, … sentences with its image, float64 [K]."""
    image = read_rows(embedding_set.images, slice(owner, owner + 1))[0]
    return read_rows(embedding_set.texts, np.array([rows[count] for count in sorted(rows)])) @ image


def _mean(curves: Sequence[np.ndarray], k: int) -> float:
    return float(np.mean([rising(curve[:k]) for curve in curves if len(curve) >= k]))


def _recalls(embedding_set: EmbeddingSet, rows: np.ndarray, owners: np.ndarray) -> dict:
    found = retrieval_metrics(embedding_set.images, embedding_set.texts[rows], owners)
    return {name: found[name] for name in ("text_to_image", "image_to_text", "mean_recall")}
