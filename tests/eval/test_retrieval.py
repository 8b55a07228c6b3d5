"""Retrieval against brute force: every query sorted explicitly, every order of ties enumerated or counted."""

from __future__ import annotations

import itertools
import math
import operator
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest

from eval.errors import InputError
from eval.retrieval import (
    Ranks,
    bootstrap_interval,
    chance,
    hit_probability,
    ranks_to_metrics,
    retrieval_metrics,
    retrieval_ranks,
)


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def random_set(images, texts, dim, seed=0, duplicates=0.0):
    """Texts that lie near their images, with a share of all rows exact copies of others."""
    rng = np.random.default_rng(seed)
    image_rows = rng.normal(size=(images, dim))
    image_of_text = np.concatenate([np.arange(images), rng.integers(images, size=texts - images)])
    text_rows = image_rows[image_of_text] + rng.normal(size=(texts, dim))
    for rows in (image_rows, text_rows):
        copies = rng.random(len(rows)) < duplicates
        rows[copies] = rows[rng.integers(max(1, len(rows) // 4), size=copies.sum())]
    return unit(image_rows), unit(text_rows), image_of_text


def rounded_scores(images, texts):
    return np.round(images.astype(np.float64) @ texts.astype(np.float64).T, 7)


def hit_by_enumeration(scores, is_positive, k):
    """Share of all orders of the candidates that, as tie breakers, bring a positive into the first k."""
    candidates = range(len(scores))
    orders = list(itertools.permutations(candidates))
    first_k = (sorted(candidates, key=lambda c: (-scores[c], order[c]))[:k] for order in orders)
    return sum(is_positive[found].any() for found in first_k) / len(orders)


def hit_by_counting(scores, is_positive, k):
    best = scores[is_positive].max()
    h = int((scores > best).sum())
    e, p = (int(((scores == best) & chosen).sum()) for chosen in (~is_positive, is_positive))
    return probability_by_counting(h, e, p, k)


def probability_by_counting(h, e, p, k):
    if k <= h:
        return 0.0
    return 1 - math.comb(e, k - h) / math.comb(e + p, k - h) if k - h <= e + p else 1.0


def hit_with_ties(won, scores, is_positive, k):
    order = sorted(range(len(scores)), key=lambda c: (-scores[c], is_positive[c] != won))
    return is_positive[order[:k]].any()


def metrics_by(oracle, scores, image_of_text, ks=(1, 5, 10)):
    is_positive = image_of_text[None] == np.arange(len(scores))[:, None]
    with_text = is_positive.any(axis=1)

    def recalls(scores, is_positive):
        queries = list(zip(scores, is_positive, strict=True))
        return {f"R@{k}": 100 * np.mean([oracle(*query, k) for query in queries]) for k in ks}

    text, image = recalls(scores.T, is_positive.T), recalls(scores[with_text], is_positive[with_text])
    return {
        **text,
        **{f"image {name}": value for name, value in image.items()},
        "mean": np.mean([*text.values(), *image.values()]),
    }


def flat(result):
    image = {f"image {name}": value for name, value in result["image_to_text"].items()}
    return {**result["text_to_image"], **image, "mean": result["mean_recall"]}


@pytest.mark.parametrize("seed", range(4))
def test_ties_are_an_expectation_over_all_orders(seed):
    rng = np.random.default_rng(seed)
    images, texts = (unit(np.eye(3)[rng.integers(3, size=size)]) for size in (4, 6))
    image_of_text = rng.integers(4, size=6)
    enumerated = metrics_by(hit_by_enumeration, rounded_scores(images, texts), image_of_text, ks=(1, 2, 5))
    result = retrieval_metrics(images, texts, image_of_text, ks=(1, 2, 5))
    assert flat(result) == pytest.approx(enumerated, abs=1e-9)


def test_hit_probability_is_exact_for_every_small_case():
    cases = np.array(list(itertools.product(range(4), range(6), range(1, 5))))
    for k in range(1, 14):
        expected = [probability_by_counting(*case, k) for case in cases.tolist()]
        np.testing.assert_allclose(hit_probability(Ranks(*cases.T), k), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    "images, texts, duplicates",
    [(40, 90, 0.0), (40, 90, 0.6), (452, 2260, 0.0), (452, 2260, 0.3), (1093, 5465, 0.3)],
)
def test_equals_brute_force(images, texts, duplicates):
    rows, queries, image_of_text = random_set(images, texts, dim=8, seed=images, duplicates=duplicates)
    result = retrieval_metrics(rows, queries, image_of_text)
    expected = metrics_by(hit_by_counting, rounded_scores(rows, queries), image_of_text)
    assert flat(result) == pytest.approx(expected, abs=1e-9)
    assert (result["images"], result["image_queries"], result["texts"]) == (images, images, texts)


@pytest.mark.slow
@pytest.mark.parametrize("images, texts, dim, copies", [(452, 2260, 512, 0.0), (1093, 5465, 64, 0.4)])
def test_ranks_at_the_papers_sizes_on_host_and_jax_and_in_any_block(images, texts, dim, copies):
    rows, queries, image_of_text = random_set(images, texts, dim, seed=1, duplicates=copies)
    queries = unit(queries + 3e-8 * np.random.default_rng(2).choice([-1, 0, 1], size=queries.shape))  # nearly equal
    scores = rounded_scores(rows, queries)
    own = scores[image_of_text, np.arange(texts)]
    best = np.full(images, -2.0)
    np.maximum.at(best, image_of_text, own)
    positives = np.bincount(image_of_text[own == best[image_of_text]], minlength=images)
    expected = [
        (scores > own).sum(axis=0),
        (scores == own).sum(axis=0) - 1,
        (scores > best[:, None]).sum(axis=1),
        (scores == best[:, None]).sum(axis=1) - positives,
    ]
    for block, device in ((2048, None), (300, None), (1500, "jax")):
        text, image, _ = retrieval_ranks(rows, queries, image_of_text, block, device)
        for found, wanted in zip((*text[:2], *image[:2], image.positives), (*expected, positives), strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_optimistic_and_pessimistic_win_and_lose_every_tie():
    images, texts, image_of_text = random_set(60, 150, dim=6, seed=3, duplicates=0.7)
    result, scores = retrieval_metrics(images, texts, image_of_text), rounded_scores(images, texts)
    for name, won in (("optimistic", True), ("pessimistic", False)):
        expected = metrics_by(lambda *case, won=won: hit_with_ties(won, *case), scores, image_of_text)
        assert flat(result[name]) == pytest.approx(expected, abs=1e-9)
    assert result["pessimistic"]["mean_recall"] < result["mean_recall"] < result["optimistic"]["mean_recall"]


@pytest.mark.parametrize("block", [1, 7, 64, 10_000])
def test_block_size_changes_nothing(block):
    case = random_set(50, 130, dim=16, seed=5, duplicates=0.4)
    assert retrieval_metrics(*case, block=block) == retrieval_metrics(*case)


def test_memory_is_bounded_by_the_block():
    case = random_set(3000, 6000, dim=4)
    tracemalloc.start()
    retrieval_ranks(*case, block=256)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6  # all scores at once would take 144 MB, a dense mask 18 MB


def test_reads_a_memory_mapped_set(tmp_path):
    images, texts, image_of_text = random_set(20, 45, dim=8)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert retrieval_metrics(mapped, texts, image_of_text) == retrieval_metrics(images, texts, image_of_text)


def test_an_image_without_a_text_is_a_candidate_but_no_query():
    images, texts = unit(np.eye(3)[[0, 0, 1, 2]]), unit(np.eye(3)[[0, 1]])
    result = retrieval_metrics(images, texts, [0, 2], ks=(1,))
    assert result["text_to_image"] == {"R@1": 75.0}  # the first text's image ties with image 1
    assert result["image_to_text"] == result["pessimistic"]["image_to_text"] == {"R@1": 100.0}
    assert (result["images"], result["image_queries"], result["texts"]) == (4, 2, 2)
    ranks = retrieval_ranks(images, texts, [0, 2]).image_to_text
    assert [counts[[1, 3]].tolist() for counts in ranks] == [[0, 0]] * 3


@pytest.mark.parametrize("texts_of_image", [(1, 1, 1, 1), (3, 1, 2), (0, 2, 4), (5, 0, 1)])
def test_chance_is_the_mean_over_all_rankings(texts_of_image):
    images, image_of_text = len(texts_of_image), np.repeat(np.arange(len(texts_of_image)), texts_of_image)
    all_equal = np.zeros((images, len(image_of_text)))
    expected = metrics_by(hit_by_enumeration, all_equal, image_of_text, ks=(1, 2, 5))
    assert flat(chance(images, image_of_text, ks=(1, 2, 5))) == pytest.approx(expected, abs=1e-9)


def test_chance_at_full_size():
    assert chance(1000, np.arange(1000))["mean_recall"] == pytest.approx(100 * (1 + 5 + 10) / 3 / 1000)
    result = chance(1093, np.repeat(np.arange(1093), 5))
    assert result["text_to_image"]["R@10"] == pytest.approx(1000 / 1093)
    any_of_five = 1 - Fraction(math.comb(5460, 10), math.comb(5465, 10))
    assert result["image_to_text"]["R@10"] == pytest.approx(100 * float(any_of_five))


def test_bootstrap_draws_images_and_their_texts_follow():
    images, texts, image_of_text = random_set(30, 75, dim=6, seed=8)
    noisy = unit(texts + np.random.default_rng(1).normal(size=texts.shape) / 2)
    models = [retrieval_ranks(images, rows, image_of_text) for rows in (texts, noisy)]
    interval = bootstrap_interval(operator.truediv, *models, samples=200, seed=7, level=0.9)
    recalls = [ranks_to_metrics(ranks)["mean_recall"] for ranks in models]
    assert interval.value == pytest.approx(recalls[0] / recalls[1], rel=1e-12)

    def mean_recall(ranks, image_sample):
        text_sample = np.concatenate([np.flatnonzero(image_of_text == image) for image in image_sample])
        return np.mean(
            [
                [hit_probability(ranks.text_to_image, k)[text_sample].mean() for k in (1, 5, 10)],
                [hit_probability(ranks.image_to_text, k)[image_sample].mean() for k in (1, 5, 10)],
            ]
        )

    rng = np.random.default_rng(7)
    drawn = [rng.integers(30, size=30) for _ in range(200)]
    ratios = sorted(mean_recall(models[0], sample) / mean_recall(models[1], sample) for sample in drawn)
    assert (interval.low, interval.high) == pytest.approx((ratios[9], ratios[189]), rel=1e-12)
    assert interval.low < interval.value < interval.high


def test_bootstrap_of_one_model_and_of_equal_ones():
    ranks = retrieval_ranks(*random_set(40, 40, dim=4, seed=4))
    interval = bootstrap_interval(operator.pos, ranks)
    assert interval.value == pytest.approx(ranks_to_metrics(ranks)["mean_recall"], rel=1e-12)
    assert interval.low < interval.value < interval.high
    assert bootstrap_interval(operator.pos, ranks) == interval
    assert bootstrap_interval(operator.pos, ranks, seed=1) != interval
    assert bootstrap_interval(operator.sub, ranks, ranks) == (0, 0, 0)
    with pytest.raises(InputError, match=r"same images, got sets of \[30, 40\] images"):
        bootstrap_interval(operator.sub, ranks, retrieval_ranks(*random_set(30, 40, dim=4)))


EYE = np.eye(3, dtype=np.float32)


@pytest.mark.parametrize(
    "images, texts, image_of_text, ks, message",
    [
        (EYE, np.eye(2), [0, 1], (1,), "images have 3 dimensions and texts 2: embed both with the same model"),
        (EYE, EYE, [0, 1], (1,), "image_of_text has 2 entries for 3 texts"),
        (EYE, EYE, [0, 3, 1], (1,), "text 1 points to image 3, but the last image is row 2"),
        (EYE, EYE, [0, 1, -1], (1,), "text 2 points to image -1"),
        (EYE, EYE, [0.0, 1.0, 2.0], (1,), "image_of_text must list the image row of each text, got float64"),
        (EYE, EYE, [], (1,), "image_of_text must list the image row of each text"),
        (EYE * [[1], [2], [1]], EYE, [0, 1, 2], (1,), "row 1 of images has length 2 instead of 1"),
        (EYE, EYE * [[1], [1], [np.nan]], [0, 1, 2], (1,), "row 2 of texts has NaN or infinite values"),
        (EYE, np.where(EYE, np.inf, 0), [0, 1, 2], (1,), "row 0 of texts has NaN or infinite values"),
        (EYE[:0], EYE, [0, 1, 2], (1,), r"images must be a matrix of at least one row, got the shape \(0, 3\)"),
        (EYE, EYE[0], [0], (1,), r"texts must be a matrix of at least one row, got the shape \(3,\)"),
        (EYE, EYE, [0, 1, 2], (), "ks must be one or more whole numbers"),
        (EYE, EYE, [0, 1, 2], (0, 1), "ks must be one or more whole numbers"),
    ],
)
def test_bad_input_is_one_clear_line(images, texts, image_of_text, ks, message):
    with pytest.raises(InputError, match=message) as error:
        retrieval_metrics(images, texts, image_of_text, ks)
    assert "\n" not in str(error.value)
