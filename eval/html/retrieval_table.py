"""Retrieval for a report: the table of recalls, and galleries of queries with what they found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from eval.html import elements, galleries
from eval.retrieval import retrieval_ranks
from eval.scores import best_matches

DIRECTIONS = {"text_to_image": "Text to image", "image_to_text": "Image to text"}


def recall_table(results: Mapping[str, Mapping], chance: Mapping[str, Mapping] | None = None) -> elements.Html:
    """Returns the recalls of rows (name → result of `eval.retrieval`) in per cent, and what ties could change.

    The rows of `chance` stand last and are quieter.
    """
    every = {**results, **(chance or {})}
    ks = list(dict.fromkeys(name for result in every.values() for name in result["text_to_image"]))
    columns = [(heading, k) for heading in DIRECTIONS.values() for k in ks]
    rows = []
    for name, result in every.items():
        recalls = (result[direction].get(k) for direction in DIRECTIONS for k in ks)
        rows.append([name, *recalls, result["mean_recall"], result["texts"]])
    images = max(result["images"] for result in every.values())
    caption = f"Recall in per cent, {images:,} images. Ties count by expectation over random order"
    spreads = [f"{name} {low:.2f} to {high:.2f}" for name, (low, high) in _tie_ranges(results).items() if low < high]
    between = f"; if all were lost or won, mean recall would be: {'; '.join(spreads)}" if spreads else ""
    kinds = ["aside" if chance and name in chance else "" for name in every]
    return elements.table(rows, ["", *columns, "Mean recall", "Texts"], f"{caption}{between}.", kinds=kinds)


def best_five(
    texts: Sequence[str],
    embeddings: np.ndarray,
    images: np.ndarray,
    image_of_text: np.ndarray,
    picture: Callable[[int], np.ndarray],
    label: Callable[[int], str | None],
    count: int = 8,
) -> list[galleries.Query]:
    """Returns `count` queries spread evenly over a set, each with its five best images.

    Args:
      texts: the T texts.
      embeddings: of the texts, unit rows [T, E].
      images: embeddings of the images, unit rows [I, E].
      image_of_text: int [T], the row of each text's image.
      picture: gives image row i as uint8 [H, W, 3].
      label: gives the class of image row i, None where it has none.
      count: how many queries; all texts if there are fewer.
    """
    chosen = _spread(len(texts), count)
    found, scores = best_matches(embeddings[chosen], images, k=5)
    image_of_text = np.asarray(image_of_text)
    own = image_of_text[chosen]
    above = retrieval_ranks(images, embeddings[chosen], own).text_to_image.above
    queries = []
    for text, right, place, rows, row_scores in zip(chosen, own, above + 1, found, scores, strict=True):
        with_text = {int(image_of_text[row]) for row, said in enumerate(texts) if said == texts[text]}
        matches = [
            galleries.Match(picture(row), f"{score:.3f}", _verdict(row, right, row in with_text, label))
            for row, score in zip(rows, row_scores, strict=True)
        ]
        note = f"Its own image is number {place:,} of {len(images):,}."
        queries.append(galleries.Query(texts[text], matches, note))
    return queries


def best_texts(
    texts: Sequence[str],
    embeddings: np.ndarray,
    images: np.ndarray,
    image_of_text: np.ndarray,
    picture: Callable[[int], np.ndarray],
    label: Callable[[int], str | None],
    count: int = 4,
) -> list[galleries.ImageQuery]:
    """Returns `count` images spread evenly over those with a text, each with its five best texts; as `best_five`."""
    with_text = np.unique(image_of_text)
    chosen = with_text[_spread(len(with_text), count)]
    found, scores = best_matches(images[chosen], embeddings, k=5)
    queries = []
    for image, rows, row_scores in zip(chosen, found, scores, strict=True):
        own = {texts[row] for row in np.flatnonzero(np.equal(image_of_text, image)).tolist()}
        matches = [
            galleries.TextMatch(
                texts[row], f"{score:.3f}", _verdict(image_of_text[row], image, texts[row] in own, label)
            )
            for row, score in zip(rows, row_scores, strict=True)
        ]
        queries.append(galleries.ImageQuery(picture(image), matches))
    return queries


def _verdict(image: int, own: int, same_text: bool, label: Callable[[int], str | None]) -> galleries.Verdict:
    """The mark of an image, or of its text, for a query that belongs to the image `own`."""
    if image == own:
        return galleries.OWN
    if same_text:
        return galleries.SAME_TEXT
    classes = label(image), label(own)
    if None in classes:
        return galleries.ANOTHER
    return galleries.SAME_CLASS if classes[0] == classes[1] else galleries.OTHER_CLASS


def _spread(length: int, count: int) -> np.ndarray:
    return np.unique(np.linspace(0, length - 1, count).round().astype(int))


def _tie_ranges(results: Mapping[str, Mapping]) -> dict[str, tuple[float, float]]:
    """Mean recall with all ties lost and with all won, to two decimals, of the rows that say."""
    return {
        name: (round(result["pessimistic"]["mean_recall"], 2), round(result["optimistic"]["mean_recall"], 2))
        for name, result in results.items()
        if "optimistic" in result
    }
