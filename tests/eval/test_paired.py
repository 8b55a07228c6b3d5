"""Paired intervals of the difference between two recipes, against plain twins."""

import operator

import numpy as np
import pytest
from scipy import stats

from eval import retrieval
from eval.errors import InputError
from eval.paired import Units, mean_and_spread, paired_difference, score


def of_hits(hits: np.ndarray) -> Units:
    """Hits [U] as a share in per cent."""
    return Units(100.0 * hits[:, None], np.ones((len(hits), 1)))


def of_ranks(ranks: retrieval.Retrieval) -> Units:
    table = retrieval.recall_hits(ranks)
    return Units(100 * table[:, :-2], np.repeat(table[:, -2:], 3, axis=1))


def ranks(seed: int, noise: float) -> retrieval.Retrieval:
    rng = np.random.default_rng(seed)
    images = np.random.default_rng(9).normal(size=(60, 8))
    texts = np.repeat(images, 2, axis=0) + noise * rng.normal(size=(120, 8))
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (images, texts)]
    return retrieval.retrieval_ranks(*unit, np.repeat(np.arange(60), 2))


def test_the_score_of_ranks_is_their_mean_recall():
    found = ranks(0, 1.0)
    assert score([of_ranks(found)]) == pytest.approx(retrieval.ranks_to_metrics(found)["mean_recall"], rel=1e-12)


def test_the_score_of_several_sets_is_the_mean_of_theirs():
    assert score([of_hits(np.array([1, 1, 0, 0])), of_hits(np.array([1.0]))]) == 75


def test_one_seed_has_the_interval_of_the_queries_alone():
    ours, others = ranks(0, 0.8), ranks(1, 1.2)
    found = paired_difference([[of_ranks(ours)]], [[of_ranks(others)]], samples=4000)
    plain = retrieval.bootstrap_interval(operator.sub, ours, others, samples=4000)
    assert found.value == pytest.approx(plain.value, rel=1e-12)
    width = plain.high - plain.low
    assert abs(found.low - plain.low) < 0.05 * width and abs(found.high - plain.high) < 0.05 * width


def test_seeds_alone_have_students_interval():
    """All units are alike, so that no draw of them changes a score; only about, as six seeds are no normal variable."""
    rng = np.random.default_rng(0)
    gaps = rng.normal(1.0, 2.0, 6)
    ours = [[Units(np.full((50, 1), 50 + gap), np.ones((50, 1)))] for gap in gaps]
    others = [[Units(np.full((50, 1), 50.0), np.ones((50, 1)))] for _ in gaps]
    found = paired_difference(ours, others, samples=20000)
    half = stats.t.ppf(0.975, 5) * gaps.std(ddof=1) / np.sqrt(6)
    assert found.value == pytest.approx(gaps.mean(), rel=1e-9)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.06)


def test_what_both_share_leaves_the_interval():
    hits = np.random.default_rng(0).random(400) < 0.5
    better = hits.copy()
    better[np.flatnonzero(~hits)[:40]] = True
    paired = paired_difference([[of_hits(better)]], [[of_hits(hits)]])
    assert paired.value == pytest.approx(10) and 0 < paired.low < 10 < paired.high < 14


def test_other_seeds_and_other_sets_are_named():
    one = [of_hits(np.ones(4))]
    with pytest.raises(InputError, match="same seeds of both, got 1 and 2"):
        paired_difference([one], [one, one])
    with pytest.raises(InputError, match="same sets"):
        paired_difference([one], [[of_hits(np.ones(5))]])


def test_a_single_seed_has_no_spread():
    assert mean_and_spread([3.0]) == (3.0, None)
    assert mean_and_spread([1.0, 3.0]) == (2.0, pytest.approx(np.sqrt(2)))
