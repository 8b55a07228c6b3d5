"""Cross-modal retrieval over unit embeddings: exact recalls, ties by expectation, chance, intervals.

The protocol is RemoteCLIP's, which the numbers of LRSCLIP and RSCLIP fit: every caption is a query of
text-to-image, any caption of an image is a hit in image-to-text, and captions that repeat stay separate: only the
image's own copies of a caption are right. Where RemoteCLIP's top k leaves open which of equal scores comes first, ties
count by their expectation over random order here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from eval.errors import InputError
from eval.scores import check_unit_rows, matching_matrices, pair_scores, read_rows, spans
from eval.screening import Standing, screen_for, standings

KS = (1, 5, 10)


class Ranks(NamedTuple):
    """Where the best positive of each query stands among all candidates; int64 [Q] each.

    `above` candidates score strictly higher, all of them negatives; `negatives` and `positives` score the
    same. A query without any positive has zeros throughout and is never hit.
    """

    above: np.ndarray
    negatives: np.ndarray
    positives: np.ndarray


class Retrieval(NamedTuple):
    """Ranks of both directions: of T texts among I images, and of I images among T texts."""

    text_to_image: Ranks
    image_to_text: Ranks
    image_of_text: np.ndarray


class Interval(NamedTuple):
    """A statistic and the ends of its confidence interval."""

    value: float
    low: float
    high: float


def retrieval_metrics(
    images, texts, image_of_text, ks: Sequence[int] = KS, block: int = 2048, device: str | None = None
) -> dict:
    """Returns the recalls of both directions, in per cent.

    Args:
      images: unit rows [I, D], read as float32; block by block, so they may be memory-mapped.
      texts: unit rows [T, D].
      image_of_text: int [T], the row of each text's image. An image may have any number of texts; one without
        any is still a candidate for every text, and no query of image-to-text.
      ks: the K of each R@K.
      block: rows of either side that are compared at a time; bounds the memory and changes no result.
      device: where float32 screens the scores (`eval.screening`): None for the host, "jax" for JAX's default device;
        changes no result.

    Returns:
      `{"text_to_image": {"R@1": …}, "image_to_text": {"R@1": …}, "mean_recall": …, "optimistic": {…},
      "pessimistic": {…}, "images": I, "image_queries": images with a text, "texts": T}`. Equal scores count
      by expectation over random order (`hit_probability`); `optimistic` and `pessimistic` hold the first
      three entries with every tie won and every tie lost.

    Raises:
      InputError: dimensions differ, a row is not finite or not of unit length, a text has no such image; the
        device is unknown or JAX is not there.
    """
    return ranks_to_metrics(retrieval_ranks(images, texts, image_of_text, block, device), ks)


def retrieval_ranks(images, texts, image_of_text, block: int = 2048, device: str | None = None) -> Retrieval:
    """Returns the exact standing of every query, both ways; arguments as for `retrieval_metrics`."""
    screen = screen_for(device)
    images, texts = matching_matrices(images=images, texts=texts)
    image_of_text = _pointers(image_of_text, len(images))
    if len(image_of_text) != len(texts):
        raise InputError(f"image_of_text has {len(image_of_text)} entries for {len(texts)} texts")
    check_unit_rows(images, "images", block)
    check_unit_rows(texts, "texts", block)

    of_text = np.concatenate(
        [
            pair_scores(read_rows(images, image_of_text[span]), read_rows(texts, span))
            for span in spans(len(texts), block)
        ]
    )
    of_image = np.full(len(images), -np.inf)
    np.maximum.at(of_image, image_of_text, of_text)
    best_texts = np.bincount(image_of_text[of_text == of_image[image_of_text]], minlength=len(images))
    of_image[best_texts == 0] = np.inf  # no text: nothing stands above or level

    # Thresholds are the best positives, so all that lies above one is negative: no mask of positives needed.
    image, text = (Standing(*np.zeros((2, len(rows)), np.int64)) for rows in (images, texts))
    with tqdm(total=len(images) * len(texts), unit="pair", unit_scale=True, delay=2, leave=False, disable=None) as bar:
        for rows in spans(len(images), block):
            image_block = np.asarray(images[rows], np.float32)
            for columns in spans(len(texts), block):
                text_block = np.asarray(texts[columns], np.float32)
                found = standings(image_block, text_block, of_image[rows], of_text[columns], screen)
                image.add(rows, found[0])
                text.add(columns, found[1])
                bar.update(len(image_block) * len(text_block))
    return Retrieval(
        Ranks(text.above, text.equal - 1, np.ones_like(text.equal)),
        Ranks(image.above, image.equal - best_texts, best_texts),
        image_of_text,
    )


def ranks_to_metrics(ranks: Retrieval, ks: Sequence[int] = KS) -> dict:
    """Returns the result of `retrieval_metrics` for ranks that are at hand."""
    return {
        **_recalls(ranks, ks, hit_probability),
        "optimistic": _recalls(ranks, ks, lambda ranks, k: ranks.above < k),
        "pessimistic": _recalls(ranks, ks, lambda ranks, k: ranks.above + ranks.negatives < k),
        **_counts(ranks),
    }


def hit_probability(ranks: Ranks, k: int) -> np.ndarray:
    """Returns float64 [Q]: how probably a positive is among the first k when ties stand in random order.

    With h above, e negatives and p positives tied it is 1 − C(e, k−h) / C(e+p, k−h), and 0 where k ≤ h.
    """
    tied = ranks.negatives + ranks.positives
    places = np.clip(k - ranks.above, 0, tied)
    miss = np.ones(len(places))
    for place in range(places.max(initial=0)):
        filled = place < places
        left = np.maximum(ranks.negatives[filled] - place, 0)
        miss[filled] *= left / (tied[filled] - place)
    return 1 - miss


def chance(images: int, image_of_text, ks: Sequence[int] = KS) -> dict:
    """Returns the expected recalls of a random ranking, laid out like a result of `retrieval_metrics`.

    A random ranking is one big tie, so the expectation is exact: k / I for a text, hypergeometric for an
    image with several texts. `optimistic` and `pessimistic` would say nothing and are left out.

    Args:
      images: the number of images I.
      image_of_text: int [T], the row of each text's image.
      ks: the K of each R@K.
    """
    image_of_text = _pointers(image_of_text, images)
    own = np.bincount(image_of_text, minlength=images)
    one = np.ones(len(image_of_text), np.int64)
    others = np.where(own > 0, len(image_of_text) - own, 0)
    ranks = Retrieval(Ranks(0 * one, images - one, one), Ranks(0 * own, others, own), image_of_text)
    return {**_recalls(ranks, ks, hit_probability), **_counts(ranks)}


def bootstrap_interval(
    statistic: Callable[..., np.ndarray],
    *ranks: Retrieval,
    ks: Sequence[int] = KS,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Returns a statistic of the mean recalls of one or more models, with its percentile bootstrap interval.

    Query images are drawn with replacement, their texts follow them, and all models see the same draw. The
    galleries stay whole: the interval speaks of other queries to the same candidates.

    Args:
      statistic: takes one array of mean recalls (per cent) for each model and works elementwise:
        `operator.truediv` for the ratio of two models, `operator.sub` for their difference, `operator.pos`
        for the mean recall of one.
      *ranks: the `retrieval_ranks` of each model, over the same images; the texts may differ.
      ks: the K of each R@K in the mean recall.
      samples: number of draws.
      seed: of the draws.
      level: of confidence, between 0 and 1.

    Raises:
      InputError: the models were not measured on the same number of images.
    """
    sizes = sorted({len(model.image_to_text.above) for model in ranks})
    if len(sizes) != 1:
        raise InputError(f"a bootstrap needs models over the same images, got sets of {sizes} images")
    tables = np.stack([recall_hits(model, _checked(ks)) for model in ranks], axis=1)
    tables = tables[(tables[..., -1] > 0).any(axis=1)]  # images that are a query of some model
    rng = np.random.default_rng(seed)
    draws = np.empty((samples, len(ranks)))
    for draw in draws:
        times_drawn = np.bincount(rng.integers(len(tables), size=len(tables)), minlength=len(tables))
        draw[:] = _table_mean_recall(np.tensordot(times_drawn, tables, axes=1))
    with np.errstate(divide="ignore", invalid="ignore"):  # a ratio may meet a model that finds nothing
        value = statistic(*_table_mean_recall(tables.sum(axis=0)))
        drawn = statistic(*draws.T)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return Interval(float(value), float(low), float(high))


def recall_hits(ranks: Retrieval, ks: Sequence[int] = KS) -> np.ndarray:
    """Returns float64 [I, 2·len(ks) + 2]: hits of an image's texts at each K, its own, its texts, is it a query."""

    def of_image(values: np.ndarray) -> np.ndarray:
        return np.bincount(ranks.image_of_text, weights=values, minlength=len(ranks.image_to_text.above))

    text_hits = [of_image(hit_probability(ranks.text_to_image, k)) for k in ks]
    image_hits = [hit_probability(ranks.image_to_text, k) for k in ks]
    texts = of_image(np.ones(len(ranks.image_of_text)))
    return np.stack([*text_hits, *image_hits, texts, texts > 0], axis=1)


def _recalls(ranks: Retrieval, ks: Sequence[int], hits: Callable[[Ranks, int], np.ndarray]) -> dict:
    ks = _checked(ks)
    is_query = ranks.image_to_text.positives > 0
    text = {f"R@{k}": 100 * float(np.mean(hits(ranks.text_to_image, k))) for k in ks}
    image = {f"R@{k}": 100 * float(np.mean(hits(ranks.image_to_text, k)[is_query])) for k in ks}
    mean = float(np.mean([*text.values(), *image.values()]))
    return {"text_to_image": text, "image_to_text": image, "mean_recall": mean}


def _counts(ranks: Retrieval) -> dict:
    texts_found = ranks.image_to_text.positives
    return {
        "images": len(texts_found),
        "image_queries": int(np.count_nonzero(texts_found)),
        "texts": len(ranks.image_of_text),
    }


def _table_mean_recall(totals: np.ndarray) -> np.ndarray:
    hits = totals[..., :-2].reshape(*totals.shape[:-1], 2, -1)
    return 100 * (hits / totals[..., -2:, None]).mean(axis=(-2, -1))


def _pointers(image_of_text, images: int) -> np.ndarray:
    pointers = np.asarray(image_of_text)
    if pointers.ndim != 1 or not len(pointers) or not np.issubdtype(pointers.dtype, np.integer):
        raise InputError(
            f"image_of_text must list the image row of each text, got {pointers.dtype} of {pointers.shape}"
        )
    outside = np.flatnonzero((pointers < 0) | (pointers >= images))
    if len(outside):
        text, image = outside[0], pointers[outside[0]]
        raise InputError(f"text {text} points to image {image}, but the last image is row {images - 1}")
    return pointers.astype(np.int64)


def _checked(ks: Sequence[int]) -> tuple[int, ...]:
    if not ks or any(k != int(k) or k < 1 for k in ks):
        raise InputError(f"ks must be one or more whole numbers from 1, got {tuple(ks)}")
    return tuple(int(k) for k in ks)
