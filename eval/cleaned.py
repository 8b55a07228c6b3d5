"""Scores of a cleaned set, without the images that are near training images, and of as many images at random.

Among fewer images every one is easier to find: recalls rise when any images leave. The difference that leaks make is
that between the cleaned set and random parts of the same size.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from eval.retrieval import chance, retrieval_metrics

DRAWS = 10


def random_parts(count: int, size: int, seed: int, draws: int = DRAWS) -> list[np.ndarray]:
    """Returns `draws` random parts of `size` of `count` rows, int64 [size] each, the same for every model."""
    rng = np.random.default_rng(seed)
    return [np.sort(rng.choice(count, size, replace=False)) for _ in range(draws)]


def cleaned_retrieval(images, texts, image_of_text, near: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Returns the recalls without the images that are near training images, and without their texts.

    Args:
      images, texts, image_of_text: as for `eval.retrieval.retrieval_metrics`.
      near: bool [I], the images to leave out.
      seed: of the random parts.

    Returns:
      `{"left_out": …, the result of retrieval_metrics, "chance": that of the images left, "random": {"draws": …,
      "images": …, "texts": …, "text_to_image": …, "image_to_text": …, "mean_recall": means over random parts of as many
      images, "mean_recall_std": …}}`; `left_out` alone where that is 0, or where no image with a text is left.
    """
    near, image_of_text = np.asarray(near, bool), np.asarray(image_of_text)
    left_out = int(near.sum())
    kept = np.flatnonzero(~near)
    if not left_out or near[image_of_text].all():
        return {"left_out": left_out}

    def of_part(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        place = np.full(len(near), -1)
        place[rows] = np.arange(len(rows))
        of_texts = np.flatnonzero(place[image_of_text] >= 0)
        return images[rows], texts[of_texts], place[image_of_text[of_texts]]

    cleaned = of_part(kept)
    parts = [part for part in map(of_part, random_parts(len(near), len(kept), seed)) if len(part[2])]
    drawn = [retrieval_metrics(*part) for part in parts]
    return {
        "left_out": left_out,
        **retrieval_metrics(*cleaned),
        "chance": chance(len(kept), cleaned[2]),
        "random": _random(drawn, len(kept)),
    }


def _random(drawn: list[dict[str, Any]], images: int) -> dict[str, Any]:
    mean_recalls = [each["mean_recall"] for each in drawn]
    return {
        "draws": len(drawn),
        "images": images,
        "texts": round(float(np.mean([each["texts"] for each in drawn]))),
        **{
            way: {k: float(np.mean([each[way][k] for each in drawn])) for k in drawn[0][way]}
            for way in ("text_to_image", "image_to_text")
        },
        "mean_recall": float(np.mean(mean_recalls)),
        "mean_recall_std": float(np.std(mean_recalls, ddof=1)),
    }
