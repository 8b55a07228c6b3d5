"""Footnotes: the published numbers known not to add up are found, all others pass, and a changed digit is noticed."""

from __future__ import annotations

from dataclasses import replace
from decimal import ROUND_DOWN, ROUND_HALF_DOWN, ROUND_HALF_UP, Decimal

import pytest

from eval.papers.footnotes import _are_shares, checks
from eval.papers.published_tables import PublishedTable, tables

DOFA = (
    *((49.66, 48.47), (50.82, 49.47), (49.09, 46.34), (50.59, 49.36), (53.76, 53.92), (55.41, 55.50)),
    *((49.99, 48.00), (57.82, 58.11), (59.98, 60.82), (59.99, 61.06), (59.93, 61.30)),
)


@pytest.fixture(scope="module")
def found():
    return checks()


def table(paper: str, label: str) -> PublishedTable:
    (one,) = (table for table in tables(paper) if table.label == label)
    return one


def changed(of: PublishedTable, row: int, path: str, value) -> PublishedTable:
    """Returns the table with one printed value replaced."""
    rows = list(of.rows)
    assert path in rows[row].values
    rows[row] = replace(rows[row], values={**rows[row].values, path: value})
    return replace(of, rows=tuple(rows))


def test_what_does_not_add_up_is_found_and_nothing_else(found):
    assert [(note.paper, note.table, note.printed, note.recomputed) for note in found] == [
        ("LRSCLIP", "I", 2023688, 2023718),
        ("LRSCLIP", "I", 481555, 505780),
        ("LRSCLIP", "I", 2023688, 1999493),
        ("LRSCLIP", "I", 110.89, 113.87),
        ("LRSCLIP", "I", 32.36, 33.01),
        ("LRSCLIP", "II", 45.43, 46.98),
        ("LRSCLIP", "II", None, None),  # the two directions of a row are copies
        ("LRSCLIP", "III", 8.98, None),
        ("LRSCLIP", "IV", 72.82, None),
        ("LRSCLIP", "VI", None, None),  # what the text calls similar
        ("LRSCLIP", "Fig. 10", None, None),  # the order of the two weights
        ("RSCLIP", "I", 6.25, None),
        ("RSCLIP", "II", 0.6912, 0.6929),
        ("RSCLIP", "II", "192M", "197M"),
        ("RSCLIP", "III", 59.85, None),
        ("RSCLIP", "V", None, 335),
        ("RSCLIP", "V", None, 2139),
        ("RSCLIP", "V", None, 800),
        ("RSCLIP", "V", None, 420),  # a fifth of UC Merced, printed for AID
        ("RSCLIP", "V", 37.37, 42.10),  # the one case that the text excepts and the caption does not
        ("RSCLIP", "VI", 90.21, None),
        ("RSCLIP", "VI", 74.17, None),
        ("RSCLIP", "VI", 93.64, None),
        ("RSCLIP", "VI", 96.7, 97.05),  # the four cases that the text excepts
        ("RSCLIP", "VI", 98.02, 98.51),
        ("RSCLIP", "VI", 95.5, 96.19),
        ("RSCLIP", "VI", 94.14, 94.27),
        *(("DOFA-CLIP", "README", *means) for means in DOFA),  # means of seven sets next to means of eight
        ("LoTLIP", "README", 89.61, None),  # Long-CLIP's shares of 612 images, of which the other models' are
        ("LoTLIP", "README", 93.2, None),
    ]


@pytest.mark.parametrize(
    "words",
    [
        "Long-CLIP ViT-B/16, RSITMD-L, mR: the six recalls average to 46.98, printed is 45.43.",
        "Long-CLIP ViT-B/16, RSITMD-L: R@5 and R@10 are the same in both directions, 51.33 and 71.02.",
        "R@1: 8.98 % is no share of 452 queries, 8.85 and 9.07 are the nearest.",
        ": 72.82 % is no share of 1,005 images, 72.74 and 72.84 are the nearest; it repeats the row's RESISC45.",
        "0.4 R_su + 0.35 (1 − R_as) + 0.25 R_da is 0.6929, printed is 0.6912.",
        "RSCLIP, parameters: 192M here, 197M in RSCLIP, Table I.",
        "The parts of category 3 add up to 505,780 pairs, the text states 481,555.",
        "Weighted by pairs, long texts have 113.87 tokens in the mean, the text states 110.89.",
        "RSCLIP ViT-Base, AID: 97.62, 99.52, 98.57, 99.05 and 98.81 are not all shares of one test set of 2,000 "
        "images; the smallest that gives all of them has 420.",
        "RESISC45: 37.37, RemoteCLIP ViT-Base has 42.10; the caption calls RSCLIP the best in all data sets and shots, "
        "the text excepts one shot of RESISC45.",
        "Section V-A has 8:2 for short and long texts in this order.",
        "37.29 against 36.17 without PCM; the text calls the two similar.",
    ],
)
def test_a_footnote_says_what_is_wrong(found, words):
    assert sum(note.text.endswith(words) for note in found) == 1


def test_places_hold_the_printed_values(found):
    for note in found:
        rows = table(note.paper, note.table).rows
        for row, path in note.places:
            assert path in rows[row].values
            assert note.printed is None or rows[row].values[path] == note.printed


@pytest.mark.parametrize(
    ("paper", "label", "row", "path", "value", "recomputed"),
    [
        ("LRSCLIP", "II", 1, "RSITMD-L/mean_recall", 64.81, 64.79),
        ("LRSCLIP", "III", 15, "RSICD/mean_recall", 28.46, 28.44),
        ("LRSCLIP", "IV", 4, "mean of six/accuracy", 75.68, 75.7),
        ("LRSCLIP", "V", 11, "AIR-SLT/R_mi", 0.7655, 0.7653),
        ("RSCLIP", "II", 7, "mean of two/accuracy", 72.22, 72.2),
        ("RSCLIP", "IV", 4, "mean of eight/accuracy", 61.16, 61.14),
        ("RSCLIP", "V", 2, "mean of eight/1/accuracy", 74.25, 74.23),
        ("RSCLIP", "VI", 11, "mean of eight/knn/accuracy", 96.31, 96.29),
    ],
)
def test_a_mean_that_is_two_last_places_off_is_noticed(paper, label, row, path, value, recomputed):
    of = table(paper, label)
    new = [note for note in checks([changed(of, row, path, value)]) if note not in checks([of])]
    mean = [note for note in new if note.printed == value and note.recomputed is not None]
    assert len(mean) == 1
    assert mean[0].places == ((row, path),)
    assert mean[0].recomputed == pytest.approx(recomputed, abs=10 ** -(4 if "R_mi" in path else 2) * 1.01)


def test_a_recall_that_no_test_set_gives_is_noticed():
    of = table("LRSCLIP", "II")
    new = set(checks([changed(of, 1, "RSITMD-L/text_to_image/R@1", 38.55)])) - set(checks([of]))
    assert [(note.places, note.printed) for note in new if "no share" in note.text] == [
        (((1, "RSITMD-L/text_to_image/R@1"),), 38.55)
    ]


def test_one_equal_recall_is_no_copy_but_two_are():
    of = table("LRSCLIP", "II")
    one = changed(of, 1, "RSITMD-L/image_to_text/R@1", 38.5)
    assert sum("same in both" in note.text for note in checks([one])) == 1
    two = changed(one, 1, "RSITMD-L/image_to_text/R@5", 73.89)
    assert sum("same in both" in note.text for note in checks([two])) == 2


def test_a_corpus_that_adds_up_has_no_footnote_and_one_pair_more_has():
    of = table("RSCLIP", "Section II-B")
    assert checks([of]) == []
    (note,) = checks([changed(of, 0, "InstructBLIP/pairs", 6278369)])
    assert (note.printed, note.recomputed, note.places) == (9686720, 9686721, ())


def test_a_gain_that_the_text_states_wrongly_is_noticed():
    of = table("LRSCLIP", "III")
    assert len(of.claims) == 12
    wrong = replace(of, claims=({**of.claims[3], "gain": 0.41}, *of.claims[4:]))
    (note,) = (note for note in checks([wrong]) if "over GeoRSCLIP" in note.text)
    assert (note.printed, note.recomputed) == (0.41, -0.41)


def test_tables_that_disagree_are_noticed():
    both = [table("RSCLIP", "II"), changed(table("RSCLIP", "IV"), 4, "AID/accuracy", 75.92)]
    (note,) = (note for note in checks(both) if note.text.startswith("RSCLIP, AID"))
    assert (note.table, note.printed, note.recomputed) == ("IV", 75.92, 75.82)


@pytest.mark.parametrize("count", [7, 58, 452, 1005, 2000])
def test_shares_are_those_that_decimals_round_or_cut_to(count):
    exact = [Decimal(100 * k) / count for k in range(count + 1)]
    ways = (ROUND_HALF_UP, ROUND_HALF_DOWN, ROUND_DOWN)
    printed = {share.quantize(Decimal("0.01"), way) for share in exact for way in ways}
    candidates = [Decimal(number) / 100 for number in range(10001)]
    assert [c for c in candidates if _are_shares([float(c)], count)] == [c for c in candidates if c in printed]


def test_a_column_is_rounded_as_a_whole_or_cut_as_a_whole():
    assert _are_shares([66.67, 66.67], 3)
    assert _are_shares([66.66, 33.33], 3)
    assert not _are_shares([66.67, 66.66], 3)
