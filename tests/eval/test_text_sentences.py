"""HiMo@K against numpy's correlations, recalls of edited texts against rankings by sorting, and the suite's page."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from documents import Document, assert_fetches_nothing

from eval.embeddings import open_set, write_set
from eval.errors import InputError
from eval.sentences import joined, sentences, shuffled
from eval.suite.__main__ import main
from eval.text_sentences import rising, sentence_effects

META = {"model": "m", "dataset": "d", "features": "projected"}
IMAGES, DIM = 24, 6


def test_a_sentence_ends_with_a_full_stop_before_white_space():
    text = "Two piers of 3.5 m. A boat! Is it?  Yes.\nNo more."
    assert sentences(text) == ["Two piers of 3.5 m.", "A boat! Is it?  Yes.", "No more."]
    assert joined(sentences(text)) == "Two piers of 3.5 m. A boat! Is it?  Yes. No more."
    for one in ("A pier", " A pier. ", ""):
        assert sentences(one) == [one.strip()]
    for text in ("A. B. C", "a.b. c.", "A.", "A boat! Is it? Yes. No."):  # Long-CLIP's rule, which drops the stop
        assert [each.removesuffix(".") for each in sentences(text)] == text.removesuffix(".").split(". ")


def test_another_order_is_always_the_same_and_never_the_old_one():
    for count in range(2, 7):
        for number in range(30):
            text = " ".join(f"Sentence {number} {place}." for place in range(count))
            other = shuffled(text)
            assert other == shuffled(text) != text
            assert sorted(sentences(other)) == sorted(sentences(text))
    assert len({shuffled(f"A{n}. B. C. D. E.").replace(f"A{n}", "A") for n in range(40)}) > 20
    assert any(shuffled(f"A{n}. B. C.") != shuffled(f"A{n}. B. C.", seed=1) for n in range(10))
    assert shuffled("One sentence alone.") == "One sentence alone."


def growing(path, most=4, rise=0.3, change=None):
    """A set of 30 long texts of one to six sentences; each sentence that is kept brings a text nearer to its image."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(IMAGES, DIM))
    owners = np.r_[np.arange(IMAGES), rng.integers(IMAGES, size=6)]
    counts = rng.integers(1, 7, size=len(owners))
    texts, rows = [], []

    def add(row, owner, share):
        rows.append({"image": f"i{owner}", **row})
        texts.append(share * images[owner] + rng.normal(size=DIM))

    for number, (owner, count) in enumerate(zip(owners, counts, strict=True)):
        name = f"text {number // 2} of {count}"
        add({"text": name, "kind": "long"}, owner, 2.0)
        edited = {"text": "…", "kind": "edited", "of": "long", "whole": name}
        if count > 1:
            for kept in range(1, min(count, most) + 1):
                add({**edited, "edit": "first", "sentences": kept}, owner, 1 + rise * kept)
            add({**edited, "edit": "shuffled"}, owner, 1.0)
            add({**edited, "edit": "without_first"}, owner, 0.2)
    rows = change(rows) if change else rows
    order = rng.permutation(len(rows))
    of_image = [{"id": f"i{row}"} for row in range(IMAGES)]
    write_set(path, META, images, np.array(texts)[order], of_image, [rows[row] for row in order])
    return open_set(path)


def curves_of(embedding_set):
    """The scores of each text's growing forms, by plain loops."""
    found = {}
    for row, text in enumerate(embedding_set.text_rows):
        if text.get("edit") == "first":
            image = embedding_set.images[int(text["image"][1:])].astype(np.float64)
            score = embedding_set.texts[row].astype(np.float64) @ image
            found.setdefault((text["whole"], text["image"]), {})[text["sentences"]] = score
    return [[one[k] for k in sorted(one)] for one in found.values()]


def test_himo_is_the_mean_correlation_of_score_and_number_of_sentences(tmp_path):
    embedding_set = growing(tmp_path)
    found = sentence_effects(embedding_set)
    curves = curves_of(embedding_set)
    assert found["several"] == len(curves) > 15 and found["texts"] == 30
    assert list(found["himo"]) == ["2", "3", "4"]
    for k in (2, 3, 4):
        values = [np.corrcoef(np.arange(k), curve[:k])[0, 1] for curve in curves if len(curve) >= k]
        assert found["himo_texts"][str(k)] == len(values)
        assert found["himo"][str(k)] == pytest.approx(np.mean(values), abs=1e-9)
    own = [np.corrcoef(np.arange(len(curve)), curve)[0, 1] for curve in curves]
    assert found["himo_own"] == pytest.approx(np.mean(own), abs=1e-9)


def test_recalls_of_edited_texts_are_those_of_their_rows_and_single_sentences_stay(tmp_path):
    embedding_set = growing(tmp_path)
    found = sentence_effects(embedding_set)
    rows = embedding_set.text_rows
    whole = [row for row, text in enumerate(rows) if text["kind"] == "long"]
    owners = np.array([int(rows[row]["image"][1:]) for row in whole])
    for name, edit in (("in_order", None), ("shuffled", "shuffled"), ("without_first", "without_first")):
        chosen = []
        for row in whole:
            of = [
                other
                for other, text in enumerate(rows)
                if edit
                and text.get("edit") == edit
                and (text["whole"], text["image"]) == (rows[row]["text"], rows[row]["image"])
            ]
            chosen += of[-1:] or [row]
        scores = embedding_set.texts[chosen] @ embedding_set.images.T
        assert found[name]["text_to_image"]["R@1"] == pytest.approx(100 * np.mean(scores.argmax(axis=1) == owners))
        right = [owners[best] == image for image, best in enumerate(scores.argmax(axis=0))]
        assert found[name]["image_to_text"]["R@1"] == pytest.approx(100 * np.mean(right))
    assert found["in_order"]["mean_recall"] > found["shuffled"]["mean_recall"] > found["without_first"]["mean_recall"]


def test_a_correlation_is_one_for_rising_scores_and_nought_for_equal_ones():
    assert rising([0.1, 0.2, 0.3]) == pytest.approx(1) and rising([3, 2]) == pytest.approx(-1)
    assert rising([0.25, 0.25, 0.25 + 1e-9]) == 0
    scores = np.random.default_rng(2).normal(size=9)
    assert rising(scores) == pytest.approx(np.corrcoef(np.arange(9), scores)[0, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: [{**row, "kind": "short"} if row["kind"] == "long" else row for row in rows],
            "no whole long texts",
        ),
        (
            lambda rows: [{**row, "of": "short"} for row in rows],
            r"no long texts by sentences: embed with --sentences=10",
        ),
        (
            lambda rows: [{**row, "sentences": 5} if row.get("sentences") == 1 else row for row in rows],
            r"is there with \[.*\] sentences: a gap",
        ),
        (
            lambda rows: [{**row, "whole": "none"} if row.get("edit") == "shuffled" else row for row in rows],
            "'none' of image 'i.*' is there edited and not whole",
        ),
        (
            lambda rows: [{**row, "edit": "upside down"} if "edit" in row else row for row in rows],
            "line .*: edit is 'upside down': expected 'first' with sentences, shuffled, without_first",
        ),
    ],
)
def test_sets_that_do_not_fit_say_so(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        sentence_effects(growing(tmp_path, change=change))


def test_the_suite_measures_and_shows_them(tmp_path):
    made = growing(tmp_path / "sets" / "d")
    out = tmp_path / "out"
    assert main([f"--sets={tmp_path / 'sets'}", f"--out={out}", "--processes=1", "--only=sentences,retrieval"]) == 0
    found = sentence_effects(made)
    with (out / "results.csv").open() as file:
        table = {(row["task"], row["metric"]): row["value"] for row in csv.DictReader(file)}
    assert float(table["sentences_long", "himo/3"]) == pytest.approx(found["himo"]["3"])
    assert float(table["sentences_long", "shuffled/text_to_image/R@1"]) == found["shuffled"]["text_to_image"]["R@1"]
    assert ("retrieval_long", "mean_recall") in table  # of the whole texts alone
    assert int(table["retrieval_long", "texts"]) == 30
    markup = (out / "report.html").read_text(encoding="utf-8")
    assert_fetches_nothing(markup)
    document = Document(markup)
    assert "Sentences of the long text: d" in document.text("h2")
    assert f"{found['himo_own']:.2f}" in document.text("td")
    assert any("or more, of 30: " in text for text in document.text("figcaption"))
