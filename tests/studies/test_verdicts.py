"""Verdicts on claims, from intervals; names of variants in a list."""

import dataclasses

import numpy as np
import pytest
import tiny_study

from eval.paired import Units
from eval.retrieval import Interval
from lrsclip_jax.studies import Claim, Variant
from lrsclip_jax.studies.results import CONFIRMED, NOISE, OPEN, REFUTED, judged, verdict_of
from lrsclip_jax.studies.study import names_in

ORDER = Claim("a is better", "ZCRL", "a", ("b", "c"))
ALIKE = Claim("a is like b", "ZCRL", "a", ("b",), within=1.0)


def spans(*ends):
    return [Interval((low + high) / 2, low, high) for low, high in ends]


@pytest.mark.parametrize(
    ("claim", "intervals", "strict", "verdict"),
    [
        (ORDER, [(1, 3), (0.1, 2)], [(0.5, 3.5), (-0.2, 2.3)], CONFIRMED),
        (ORDER, [(1, 3), (-0.1, 2)], [(0.5, 3.5), (-0.4, 2.3)], NOISE),
        (ORDER, [(1, 3), (-2, -0.1)], [(0.5, 3.5), (-2.3, 0.1)], NOISE),  # one of two at 95 % is no refutation
        (ORDER, [(1, 3), (-2, -0.5)], [(0.5, 3.5), (-2.3, -0.2)], REFUTED),
        (ALIKE, [(-0.9, 0.5)], [(-0.9, 0.5)], CONFIRMED),
        (ALIKE, [(-1.1, 0.5)], [(-1.1, 0.5)], NOISE),
        (ALIKE, [(0.5, 3.0)], [(0.5, 3.0)], NOISE),
        (ALIKE, [(1.1, 3.0)], [(1.1, 3.0)], REFUTED),
        (ALIKE, [(-3.0, -1.1)], [(-3.0, -1.1)], REFUTED),
    ],
)
def test_a_claim_is_confirmed_refuted_or_within_noise(claim, intervals, strict, verdict):
    assert verdict_of(claim, spans(*intervals), spans(*strict)) == verdict


def hits(share):
    """A variant of two seeds that hits this share of a hundred images."""
    earned = 100.0 * (np.arange(100) < 100 * share)[:, None]
    return {seed: {"ZCRL": [Units(earned, np.ones((100, 1)))]} for seed in (0, 1)}


def test_a_claim_is_not_confirmed_while_a_variant_is_missing():
    whole = judged(ORDER, {"a": hits(0.9), "b": hits(0.5), "c": hits(0.4)})
    assert whole.verdict == CONFIRMED and whole.why == ""
    part = judged(ORDER, {"a": hits(0.9), "b": hits(0.5)})
    assert part.verdict == OPEN and part.why == "c is missing" and list(part.differences) == ["b"]
    assert judged(ORDER, {"a": hits(0.4), "b": hits(0.9)}).verdict == REFUTED
    assert judged(ORDER, {"b": hits(0.5), "c": hits(0.4)}).why == "a is missing"
    assert judged(ORDER, {"a": hits(0.9)}).why == "b, c are missing"
    assert judged(dataclasses.replace(ORDER, score="SeLo"), {"a": hits(0.9)}).why == "no set allows SeLo"


def test_names_with_commas_are_found_in_a_list():
    names = ("KPS, 20 kept", "KPS", "cut")
    variants = tuple(Variant({"ratio": name}) for name in names)
    study = dataclasses.replace(tiny_study.get_study(), variants=variants)
    assert names_in("KPS, 20 kept,cut", study) == ["KPS, 20 kept", "cut"]
    assert names_in("KPS,cut", study) == ["KPS", "cut"]
    assert names_in("KSP,cut", study) == ["KSP", "cut"]
    assert names_in("", study) == []
